/** What client and far end have agreed on. */

/** The field that the 60 KB head is made of, so often. */
export const LONG_FIELD = 4000;
export const LONG_FIELDS = 15;

/** Fields of a response that a proxy has no reason to touch. */
export const ODD_FIELDS = ['X-oDD: caf\xe9', 'zz-First: 1', 'aa-second: 2', 'set-COOKIE: a=1', 'set-COOKIE: b=2'];

/** A web socket's key, and what its server must make of it (RFC 6455 section 1.3). */
export const WEB_SOCKET_KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
export const WEB_SOCKET_ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';
