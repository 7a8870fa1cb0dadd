import { DEFAULT_PLAN, type Plan, type Reading } from '../plan.js';
import { type FileRequest, type Request, requestFrom } from './command-line.js';

type Read = (path: string, base: string, said: Partial<Plan>) => Reading;

/** @throws Failure with all that is wrong in the file */
export const readFileRequest = async ({ path, said, takeover }: FileRequest): Promise<Request> => {
  const read = await readerFor(path);
  // A daemon goes to / when it is up.
  const base = process.cwd();
  return requestFrom(() => read(path, base, said), takeover);
};

/** By the end of the file's name: YAML, of which JSON is a part, or else rinetd's. */
const readerFor = async (path: string): Promise<Read> => {
  if (/\.(ya?ml|json)$/i.test(path)) return (await import('./yaml.js')).readYaml;
  const { readRinetdConf } = await import('./rinetd-conf.js');
  return (file, base, said) => {
    const { plan, warnings } = readRinetdConf(file, base, { ...DEFAULT_PLAN, ...said });
    return { plan: { ...plan, ...said }, warnings };
  };
};
