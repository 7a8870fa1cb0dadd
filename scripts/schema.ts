import { writeFileSync } from 'node:fs';
import { jsonSchema } from './schema/json-schema.js';

// Writes the schema that is published. The linter makes its lines what they are in the repository.
writeFileSync('docs/tproxy.schema.json', `${JSON.stringify(jsonSchema(), null, 2)}\n`);
