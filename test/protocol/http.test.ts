import assert from 'node:assert/strict';
import { test } from 'node:test';
import { refusal } from '../../src/protocol/http.js';
import { acceptedResponse } from './heads.js';

test('a refusal is one whole response that ends the connection', () => {
  for (const status of [400, 408, 409, 413, 414, 417, 431, 501, 502, 504, 505, 508, 599]) {
    const bytes = refusal(status, 'Because of that.');
    const head = acceptedResponse(bytes.toString('latin1'));
    assert.equal(head.status, status);
    assert.equal(head.keepAlive, false);
    assert.deepEqual(head.body, { kind: 'length', length: bytes.length - head.size });
    assert.match(bytes.toString(), /^HTTP\/1\.1 \d{3} [A-Z][A-Za-z ]+\r\n/);
    assert.match(bytes.toString(), /<p>Because of that\.<\/p>/);
  }
});

test("a refusal's reason is text, whatever is in it, and its length is in bytes", () => {
  const bytes = refusal(400, `<script>"é" & 'x'`);
  const head = acceptedResponse(bytes.toString('latin1'));
  assert.deepEqual(head.body, { kind: 'length', length: bytes.length - head.size });
  assert.match(bytes.toString(), /<p>&lt;script&gt;&quot;é&quot; &amp; &#39;x&#39;<\/p>/);
});
