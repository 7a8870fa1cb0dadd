import { z } from 'zod';
import { FILE } from '../../src/config/yaml-words.js';

/** The JSON schema of a plan in YAML, for editors. What a rule contradicts itself by, it lets pass. */
export const jsonSchema = (): object => ({
  ...z.toJSONSchema(FILE, { io: 'input', reused: 'inline' }),
  title: 'A plan of tproxy',
});
