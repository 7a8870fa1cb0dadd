import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { parseRedir } from '../../src/config/redir.js';
import { toYaml } from '../../src/config/to-yaml.js';
import { parseTransproxy } from '../../src/config/transproxy.js';
import { parseYaml } from '../../src/config/yaml.js';
import { Failure } from '../../src/failure.js';
import type { Plan } from '../../src/plan.js';
import { ConfFolder } from '../support/conf.js';
import { arbitraryPlan } from './arbitrary-plan.js';

const read = (text: string): Plan => parseYaml('x.yaml', text, '/', {}).plan;

const assertRoundTrip = (plan: Plan, whole = false): void => {
  const text = toYaml(plan, { whole });
  assert.deepEqual(read(text), plan, text);
};

describe('a plan as YAML', () => {
  it('is the same plan when it is read, whatever plan it is', () => {
    fc.assert(
      fc.property(arbitraryPlan, (plan) => assertRoundTrip(plan)),
      { numRuns: 500 },
    );
  });

  it('is the same plan too with all that a file may leave out, but for passwords', () => {
    fc.assert(
      fc.property(arbitraryPlan, (plan) => {
        const services = plan.services.map((service) => ({
          ...service,
          upstreams: service.upstreams.map((upstream) => ({
            ...upstream,
            credentials: upstream.credentials && { ...upstream.credentials, password: '***' },
          })),
        }));
        const text = toYaml(plan, { whole: true });
        assert.deepEqual(read(text), { ...plan, services }, text);
      }),
      { numRuns: 200 },
    );
  });

  for (const [dialect, parse] of Object.entries({ transproxy: parseTransproxy, redir: parseRedir })) {
    it(`is the same plan for every command line that the tests of ${dialect} have`, () => {
      // Whatever is quoted there and is a command line, is one that means a plan.
      const tests = readFileSync(new URL(`../../../test/config/${dialect}.test.ts`, import.meta.url), 'utf8');
      let count = 0;
      for (const [, quoted = ''] of tests.matchAll(/'([^'\n]*)'/g)) {
        const plan = planOf(parse, quoted);
        if (plan === null) continue;
        assertRoundTrip(plan);
        count += 1;
      }
      assert.ok(count > 40, `${count} command lines`);
    });
  }

  it('is the same plan for every rule that the tests of rinetd.conf have', () => {
    const folder = new ConfFolder();
    after(() => folder.remove());
    const tests = readFileSync(new URL('../../../test/config/rinetd-conf.test.ts', import.meta.url), 'utf8');
    let count = 0;
    for (const [, quoted = ''] of tests.matchAll(/'([^'\n]*)'/g)) {
      for (const text of [quoted, `0 1 192.0.2.1 2 [${quoted}]`, `0 1 p 2 [mode=http,${quoted}]`]) {
        const plan = unlessRefused(() => folder.read(`${text}\n`).plan);
        if (plan === null) continue;
        assertRoundTrip(plan);
        count += 1;
      }
    }
    assert.ok(count > 40, `${count} rules`);
  });

  it('says nothing that would be so without it', () => {
    const plan = planOf(parseTransproxy, '-t -s 8081 --timeout 0 a 25') as Plan;
    assert.equal(
      toYaml(plan, { whole: false }),
      'rules:\n  - name: relay to a:25\n    bind: :8081\n    connect: a:25\n    dns_refresh: 10\n',
    );
  });

  it('warns of nothing when a rinetd.conf has settings that only some of its rules have a use for', () => {
    const folder = new ConfFolder();
    after(() => folder.remove());
    const { plan, warnings } = folder.read(
      'listen-backlog 9\nmax-udp-connections 9\nconnect-timeout 9\n0 1 a 2\n0 1/udp a 2/udp\n',
    );
    assert.deepEqual(warnings, []);
    assert.deepEqual(parseYaml('x.yaml', toYaml(plan, { whole: false }), '/', {}).warnings, []);
    assertRoundTrip(plan);
  });

  it('has passwords as a file, and none for reading', () => {
    const plan = planOf(parseTransproxy, '-s 8081 --upstream u:se%20cret@a:1') as Plan;
    assert.match(toYaml(plan, { whole: false }), /- http:\/\/u:se%20cret@a:1$/m);
    assert.match(toYaml(plan, { whole: true }), /- http:\/\/u:\*\*\*@a:1$/m);
    assert.doesNotMatch(toYaml(plan, { whole: true }), /cret/);
  });

  it('has access lists that all services begin with once', () => {
    const [first, second] = ['a', 'b'].map((name, i) => `- {name: ${name}, bind: ":${80 + i}", connect: a:1}`);
    const plan = read(`global: {access: {allow: ["10.*"]}}\nrules:\n${first}\n${second}\n`);
    assert.equal(toYaml(plan, { whole: false }).split('10.*').length, 2);
    assertRoundTrip(plan);
  });
});

const planOf = (parse: typeof parseRedir | typeof parseTransproxy, line: string): Plan | null =>
  unlessRefused(() => {
    const request = parse(line.split(' ').filter(Boolean));
    return request.kind === 'plan' ? request.plan : null;
  });

const unlessRefused = <T>(make: () => T): T | null => {
  try {
    return make();
  } catch (error) {
    if (error instanceof Failure) return null;
    throw error;
  }
};
