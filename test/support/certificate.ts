import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

/** Files in PEM form. */
export interface Certificate {
  readonly certificate: string;
  readonly key: string;
}

/** Makes a certificate that signs itself, for names and addresses as `DNS:origin.lab` and `IP:10.77.2.2`. */
export const makeCertificate = (folder: string, ...names: readonly string[]): Certificate => {
  const made = { certificate: join(folder, 'certificate.pem'), key: join(folder, 'key.pem') };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', made.key];
  const subject = ['-subj', '/CN=lab', '-addext', `subjectAltName=${names.join(',')}`, '-days', '2'];
  execFileSync('openssl', ['req', '-x509', ...key, ...subject, '-out', made.certificate], { stdio: 'pipe' });
  return made;
};

/** A server block for nginx's configuration that serves TLS on a port. */
export const tlsServer = (port: number, { certificate, key }: Certificate): string =>
  `server { listen ${port} ssl; listen [::]:${port} ssl; ssl_certificate ${certificate}; ssl_certificate_key ${key}; }`;
