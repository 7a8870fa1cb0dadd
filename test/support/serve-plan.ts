/**
 * The program without a dialect: `node serve-plan.js FILE [PIDFILE]`, where FILE is a plan in JSON, which is read again on
 * SIGHUP, and PIDFILE that of a process to take over from. What FILE leaves out is as in the defaults of src/plan.ts.
 */
import { readFileSync } from 'node:fs';
import { supervise } from '../../src/control/supervisor.js';
import { EX, Failure } from '../../src/failure.js';
import { DEFAULT_LIMITS, DEFAULT_PLAN, DEFAULT_SERVICE, type Limits, type Plan, type Service } from '../../src/plan.js';

export type GivenService = Partial<Omit<Service, 'limits' | 'http'>> &
  Pick<Service, 'name'> & { readonly limits?: Partial<Limits>; readonly http?: Partial<Service['http']> };

export type GivenPlan = Partial<Omit<Plan, 'services'>> & { readonly services: readonly GivenService[] };

const [file = '', takeover] = process.argv.slice(2);

const read = (): Plan => {
  let given: GivenPlan;
  try {
    given = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Failure(`${file}:1: ${(error as Error).message}`, EX.CONFIG);
  }
  return {
    ...DEFAULT_PLAN,
    foreground: true,
    ...given,
    services: given.services.map((service) => ({
      ...DEFAULT_SERVICE,
      listen: [],
      ...service,
      http: { ...DEFAULT_SERVICE.http, ...service.http },
      limits: { ...DEFAULT_LIMITS, ...service.limits },
    })),
  };
};

const run = async (): Promise<number> => {
  try {
    return await supervise(read(), [], { reread: () => ({ plan: read(), warnings: [] }), takeover });
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    console.error(error.message);
    return error.exitCode;
  }
};

process.exit(await run());
