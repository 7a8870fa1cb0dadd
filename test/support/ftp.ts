/** How curl and lftp come to their data, and what the origin is asked then. */
export const WAYS = [
  { way: 'EPSV', curl: [], lftp: 'set ftp:passive-mode on; set ftp:prefer-epsv on', ipv4Only: false },
  { way: 'PASV', curl: ['--disable-epsv'], lftp: 'set ftp:passive-mode on; set ftp:prefer-epsv off', ipv4Only: true },
  { way: 'EPRT', curl: ['--ftp-port', '-'], lftp: 'set ftp:passive-mode off', ipv4Only: false },
  { way: 'PORT', curl: ['--ftp-port', '-', '--disable-eprt'], lftp: 'set ftp:passive-mode off', ipv4Only: true },
] as const;

/** The command line of curl: for one transfer, or several. */
export const curlCommand = (...args: string[]): string[] => [
  ...['curl', '--silent', '--show-error', '--max-time', '60'],
  ...args,
];

/** The command line of lftp that goes to `site` with these settings, and does the commands there. */
export const lftpCommand = (site: string, settings: string, ...commands: string[]): string[] => {
  const common = 'set net:max-retries 1; set net:timeout 20; set ftp:ssl-allow no';
  return ['lftp', '-c', [common, settings, `open ${site}`, ...commands].join('; ')];
};
