/**
 * The program without a dialect: `node serve-plan.js FILE`, where FILE is a plan in JSON. What it leaves out is as in the
 * defaults of src/plan.ts.
 */
import { readFileSync } from 'node:fs';
import { supervise } from '../../src/control/supervisor.js';
import { DEFAULT_LIMITS, DEFAULT_PLAN, DEFAULT_SERVICE, type Plan, type Service } from '../../src/plan.js';

type PartOfService = Partial<Omit<Service, 'limits'>> & Pick<Service, 'name' | 'listen'>;

/** What the file has. */
export type PartOfPlan = Partial<Omit<Plan, 'services'>> & { readonly services: readonly PartOfService[] };

const part = JSON.parse(readFileSync(process.argv[2] as string, 'utf8')) as PartOfPlan;
const services = part.services.map((service) => ({ ...DEFAULT_SERVICE, limits: DEFAULT_LIMITS, ...service }));
process.exit(await supervise({ ...DEFAULT_PLAN, foreground: true, ...part, services }, []));
