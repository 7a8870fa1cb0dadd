/** The part of the package posix 4.2 that this program calls; it ships no types. Errors carry the errno in `code`. */
declare module 'posix' {
  interface Limit {
    /** null: unlimited. */
    readonly soft: number | null;
    readonly hard: number | null;
  }
  interface Passwd {
    readonly name: string;
    readonly uid: number;
    readonly gid: number;
  }
  const posix: {
    getpwnam(user: string | number): Passwd;
    initgroups(user: string, group: number): void;
    setregid(real: number, effective: number): void;
    setreuid(real: number, effective: number): void;
    getrlimit(resource: 'nofile'): Limit;
    setrlimit(resource: 'nofile', limit: Limit): void;
    openlog(ident: string, options: Readonly<Record<string, boolean>>, facility: string): void;
    syslog(priority: string, message: string): void;
  };
  export default posix;
}
