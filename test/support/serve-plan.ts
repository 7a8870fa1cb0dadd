/**
 * The program without a dialect: `node serve-plan.js FILE`, where FILE is a plan in JSON. What it leaves out is as in the
 * defaults of src/plan.ts.
 */
import { readFileSync } from 'node:fs';
import { supervise } from '../../src/control/supervisor.js';
import { DEFAULT_LIMITS, DEFAULT_PLAN, DEFAULT_SERVICE, type Limits, type Plan, type Service } from '../../src/plan.js';

export type GivenService = Partial<Omit<Service, 'limits' | 'name' | 'listen'>> &
  Pick<Service, 'name' | 'listen'> & { readonly limits?: Partial<Limits> };

export type GivenPlan = Partial<Omit<Plan, 'services'>> & { readonly services: readonly GivenService[] };

const given = JSON.parse(readFileSync(process.argv[2] as string, 'utf8')) as GivenPlan;
const plan: Plan = {
  ...DEFAULT_PLAN,
  foreground: true,
  ...given,
  services: given.services.map((service) => ({
    ...DEFAULT_SERVICE,
    ...service,
    limits: { ...DEFAULT_LIMITS, ...service.limits },
  })),
};
process.exit(await supervise(plan, []));
