/**
 * Serves the plan in the JSON file argv[2], in which each property may be left out that has a default, until a signal ends
 * it.
 */
import { readFileSync } from 'node:fs';
import { supervise } from '../../src/control/supervisor.js';
import { Failure } from '../../src/failure.js';
import { DEFAULT_LIMITS, DEFAULT_PLAN, DEFAULT_SERVICE, type Plan } from '../../src/plan.js';

/** A plan as a test writes it. */
type Sketch = Partial<Omit<Plan, 'services'>> & {
  readonly services: readonly (Partial<Plan['services'][number]> & { readonly name: string })[];
};

const sketch = JSON.parse(readFileSync(process.argv[2] as string, 'utf8')) as Sketch;
const plan: Plan = {
  ...DEFAULT_PLAN,
  foreground: true,
  ...sketch,
  services: sketch.services.map((service) => ({
    ...DEFAULT_SERVICE,
    listen: [],
    ...service,
    http: { ...DEFAULT_SERVICE.http, ...service.http },
    limits: { ...DEFAULT_LIMITS, ...service.limits },
  })),
};
try {
  process.exit(await supervise(plan, []));
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(error.exitCode);
}
