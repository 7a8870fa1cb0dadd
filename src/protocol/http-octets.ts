/** Bytes and classes of bytes in HTTP/1 (RFC 9110 sections 5.5 and 5.6.2, RFC 9112 section 3). */

export const HTAB = 0x09;
export const LF = 0x0a;
export const CR = 0x0d;
export const SP = 0x20;
export const COLON = 0x3a;
export const SEMICOLON = 0x3b;

/** Of a method or a field's name. */
export const TOKEN = 1;
/** Of a field's value, a chunk extension: visible, 8-bit, space and tab. */
export const VALUE = 2;
/** Of a request target: visible and 8-bit. RFC 3986 allows fewer, but what clients send is forwarded as it is. */
export const TARGET = 4;

/** The classes of each byte, as a sum. */
export const CLASS = new Uint8Array(256);

for (let c = 0x21; c < 0x100; c++) if (c !== 0x7f) CLASS[c] = VALUE | TARGET;
for (const c of [HTAB, SP]) CLASS[c] = VALUE;
for (const c of Buffer.from("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")) {
  CLASS[c] = TOKEN | VALUE | TARGET;
}

/** The first position from `at` on whose byte is not of `kind`; `to` if all are. */
export const skip = (bytes: Buffer, at: number, to: number, kind: number): number => {
  let p = at;
  while (p < to && ((CLASS[bytes[p] as number] as number) & kind) !== 0) p++;
  return p;
};
