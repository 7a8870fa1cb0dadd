import { createRequire } from 'node:module';

// As CommonJS, which loads a millisecond or two sooner: under inetd each connection waits for it.
const require = createRequire(import.meta.url);
const koffi = require('koffi') as typeof import('koffi');

/**
 * The C library's functions as koffi makes them, typed. Only synchronous calls: koffi's asynchronous ones cost 200 µs
 * and a thread. The files beside this one give them shape; nothing else imports koffi.
 */

/** Memory that a call reads or writes; null is NULL. A view passes the address of its first byte. */
export type Memory = ArrayBufferView | null;

// The symbols of the running process: Node links the C library, so neither glibc's nor musl's file name is needed.
const self = koffi.load(null);

const bind = <F>(name: string, result: string, parameters: readonly string[]): F =>
  self.func(name, result, [...parameters]) as unknown as F;

/** The same, bound by its first call: most processes never make one, and under inetd start-up time counts. */
const bindLate = <A extends readonly unknown[]>(
  name: string,
  result: string,
  parameters: readonly string[],
): ((...given: A) => number) => {
  let bound: ((...given: A) => number) | null = null;
  return (...given) => {
    bound ??= bind<(...given: A) => number>(name, result, parameters);
    return bound(...given);
  };
};

/** Where the bytes of a buffer stand: for structs that point to others. Keep the buffer reachable meanwhile. */
export const addressOf: (memory: Buffer) => bigint = koffi.address;

/** The errno of this thread's last call. */
export const errno: () => number = koffi.errno;

type Fd = number;

export const socket = bind<(domain: number, type: number, protocol: number) => Fd>('socket', 'int', [
  'int',
  'int',
  'int',
]);
export const bindSocket = bind<(fd: Fd, address: Memory, length: number) => number>('bind', 'int', [
  'int',
  'void *',
  'uint',
]);
export const listen = bind<(fd: Fd, backlog: number) => number>('listen', 'int', ['int', 'int']);
export const accept4 = bind<(fd: Fd, address: Memory, length: Memory, flags: number) => Fd>('accept4', 'int', [
  'int',
  'void *',
  'void *',
  'int',
]);
export const connect = bind<(fd: Fd, address: Memory, length: number) => number>('connect', 'int', [
  'int',
  'void *',
  'uint',
]);
export const getsockname = bind<(fd: Fd, address: Memory, length: Memory) => number>('getsockname', 'int', [
  'int',
  'void *',
  'void *',
]);
export const getpeername = bind<(fd: Fd, address: Memory, length: Memory) => number>('getpeername', 'int', [
  'int',
  'void *',
  'void *',
]);
export const getsockopt = bind<(fd: Fd, level: number, name: number, value: Memory, length: Memory) => number>(
  'getsockopt',
  'int',
  ['int', 'int', 'int', 'void *', 'void *'],
);
export const setsockopt = bind<(fd: Fd, level: number, name: number, value: Memory, length: number) => number>(
  'setsockopt',
  'int',
  ['int', 'int', 'int', 'void *', 'uint'],
);
export const shutdown = bind<(fd: Fd, how: number) => number>('shutdown', 'int', ['int', 'int']);
export const recv = bind<(fd: Fd, into: Memory, length: number, flags: number) => number>('recv', 'long', [
  'int',
  'void *',
  'ulong',
  'int',
]);
export const send = bind<(fd: Fd, from: Memory, length: number, flags: number) => number>('send', 'long', [
  'int',
  'void *',
  'ulong',
  'int',
]);
export const read = bind<(fd: Fd, into: Memory, length: number) => number>('read', 'long', ['int', 'void *', 'ulong']);
export const write = bind<(fd: Fd, from: Memory, length: number) => number>('write', 'long', [
  'int',
  'void *',
  'ulong',
]);
export const close = bind<(fd: Fd) => number>('close', 'int', ['int']);
export const flock = bindLate<readonly [fd: Fd, operation: number]>('flock', 'int', ['int', 'int']);
export const dup2 = bind<(from: Fd, to: Fd) => number>('dup2', 'int', ['int', 'int']);
export const fcntl = bind<(fd: Fd, command: number, argument: number) => number>('fcntl', 'int', ['int', 'int', 'int']);
export const pipe2 = bind<(ends: Memory, flags: number) => number>('pipe2', 'int', ['void *', 'int']);
export const splice = bind<
  (from: Fd, fromOffset: null, to: Fd, toOffset: null, length: number, flags: number) => number
>('splice', 'long', ['int', 'void *', 'int', 'void *', 'ulong', 'uint']);
export const eventfd = bind<(initial: number, flags: number) => Fd>('eventfd', 'int', ['uint', 'int']);
export const epollCreate1 = bind<(flags: number) => Fd>('epoll_create1', 'int', ['int']);
export const epollCtl = bind<(epoll: Fd, operation: number, fd: Fd, event: Memory) => number>('epoll_ctl', 'int', [
  'int',
  'int',
  'int',
  'void *',
]);
export const epollWait = bind<(epoll: Fd, events: Memory, most: number, timeout: number) => number>(
  'epoll_wait',
  'int',
  ['int', 'void *', 'int', 'int'],
);
export const sendmsg = bindLate<readonly [fd: Fd, message: Memory, flags: number]>('sendmsg', 'long', [
  'int',
  'void *',
  'int',
]);
export const recvmsg = bindLate<readonly [fd: Fd, message: Memory, flags: number]>('recvmsg', 'long', [
  'int',
  'void *',
  'int',
]);
export const recvmmsg = bindLate<readonly [fd: Fd, headers: Memory, count: number, flags: number, timeout: null]>(
  'recvmmsg',
  'int',
  ['int', 'void *', 'uint', 'int', 'void *'],
);
export const sendmmsg = bindLate<readonly [fd: Fd, headers: Memory, count: number, flags: number]>('sendmmsg', 'int', [
  'int',
  'void *',
  'uint',
  'int',
]);

/**
 * Memory that stays where it is for as long as the process lives, for structs that point to others. What it holds at
 * first is anything.
 */
export const allocate = (size: number): { readonly memory: ArrayBuffer; readonly address: bigint } => {
  const pointer = koffi.alloc('uint8_t', size);
  return { memory: koffi.view(pointer, size), address: koffi.address(pointer) };
};

/**
 * Of libwrap, which few machines have and fewer services ask (hosts_access(3)).
 * @throws Error with the loader's words when `file` can't be loaded
 */
export const loadLibwrap = (
  file: string,
): {
  readonly hostsCtl: (daemon: string, clientName: string, clientAddress: string, clientUser: string) => number;
  readonly setResident: (value: number) => void;
} => {
  const library = koffi.load(file);
  const resident = library.symbol('resident');
  return {
    hostsCtl: library.func('hosts_ctl', 'int', ['str', 'str', 'str', 'str']),
    setResident: (value) => koffi.encode(resident, 'int', value),
  };
};

export const prctl = bindLate<readonly [option: number, value: number]>('prctl', 'int', ['int', 'ulong']);
export const capset = bindLate<readonly [header: Memory, sets: Memory]>('capset', 'int', ['void *', 'void *']);
export const socketpair = bindLate<readonly [domain: number, type: number, protocol: number, ends: Memory]>(
  'socketpair',
  'int',
  ['int', 'int', 'int', 'void *'],
);
