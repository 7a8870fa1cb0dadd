import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { jsonSchema } from '../../scripts/schema/json-schema.js';

test('the JSON schema that is published is the one that files are checked by (npm run schema)', () => {
  const published = readFileSync(new URL('../../../docs/tproxy.schema.json', import.meta.url), 'utf8');
  assert.deepEqual(JSON.parse(published), JSON.parse(JSON.stringify(jsonSchema())));
});
