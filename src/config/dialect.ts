import type { Request } from './command-line.js';
import { parseTransproxy } from './transproxy.js';

/**
 * Reads the command line in the dialect of the name that the program was called by.
 *
 * @param _program the last part of the path that the program was called by; every name speaks transproxy's dialect
 * @param argv the arguments behind it
 * @throws UsageError
 */
export const parseCommandLine = (_program: string, argv: readonly string[]): Request => parseTransproxy(argv);
