import { DEFAULT_PLAN } from '../plan.js';
import { type FileRequest, type Request, requestFrom } from './command-line.js';
import { readRinetdConf } from './rinetd-conf.js';

/** @throws Failure with all that is wrong in the file */
export const readFileRequest = ({ path, said, takeover }: FileRequest): Request => {
  // A daemon goes to / when it is up.
  const base = process.cwd();
  return requestFrom(() => {
    const { plan, warnings } = readRinetdConf(path, base, { ...DEFAULT_PLAN, ...said });
    return { plan: { ...plan, ...said }, warnings };
  }, takeover);
};
