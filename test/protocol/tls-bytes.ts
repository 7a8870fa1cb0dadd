/** Writers of ClientHellos, well-formed or not (RFC 8446 sections 4.1.2 and 5.1). */

const number = (value: number, width: number): Buffer => {
  const bytes = Buffer.alloc(width);
  bytes.writeUIntBE(value, 0, width);
  return bytes;
};

/** Bytes with their length before them. */
const vector = (width: number, ...parts: readonly Buffer[]): Buffer => {
  const content = Buffer.concat(parts);
  return Buffer.concat([number(content.length, width), content]);
};

export const extension = (type: number, ...content: readonly Buffer[]): Buffer =>
  Buffer.concat([number(type, 2), vector(2, ...content)]);

/** An entry of server_name; 0 is the type of a host name. */
export const nameOf = (name: string, type = 0): Buffer =>
  Buffer.concat([Buffer.of(type), vector(2, Buffer.from(name, 'latin1'))]);

export const serverName = (...names: readonly Buffer[]): Buffer => extension(0, vector(2, ...names));

export const alpn = (...protocols: readonly string[]): Buffer =>
  extension(16, vector(2, ...protocols.map((protocol) => vector(1, Buffer.from(protocol, 'latin1')))));

/** With the type byte of an outer hello, and something behind it. */
export const ech = (type = 0): Buffer => extension(0xfe0d, Buffer.of(type, 0, 1, 0, 1, 7, 0, 0, 0, 0));

/** A handshake message: by default a ClientHello with these bytes in it. */
export const message = (content: Buffer, type = 1): Buffer => Buffer.concat([Buffer.of(type), vector(3, content)]);

/** What is in a ClientHello before the extensions. */
export const BEFORE_EXTENSIONS = Buffer.concat([
  Buffer.of(3, 3),
  Buffer.alloc(32, 0xaa),
  vector(1, Buffer.alloc(32, 0xbb)),
  vector(2, Buffer.of(0x13, 0x01, 0x13, 0x02)),
  vector(1, Buffer.of(0)),
]);

/** A ClientHello message with these extensions. */
export const hello = (...extensions: readonly Buffer[]): Buffer =>
  message(Buffer.concat([BEFORE_EXTENSIONS, vector(2, ...extensions)]));

export const record = (content: Buffer, type = 22, version = 0x0301): Buffer =>
  Buffer.concat([Buffer.of(type), number(version, 2), vector(2, content)]);

/** The same bytes in records that carry `size` bytes each. */
export const records = (content: Buffer, size: number): Buffer => {
  const cut: Buffer[] = [];
  for (let at = 0; at < content.length; at += size) cut.push(record(content.subarray(at, at + size)));
  return Buffer.concat(cut);
};
