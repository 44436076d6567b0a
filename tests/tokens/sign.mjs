// Signs grant tokens with jose, which issuers in TypeScript use.
//
// Reads {"claims": …, "type": …} on standard input; prints a list of {"library", "jwk", "token"}. Its
// argument is the directory that jose was installed in.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { text } from 'node:stream/consumers';

const resolve = createRequire(`${process.argv[2]}/package.json`).resolve;
const { SignJWT, exportJWK, generateKeyPair } = await import(pathToFileURL(resolve('jose')));

const { claims, type } = JSON.parse(await text(process.stdin));
const signed = [];
for (const alg of ['RS256', 'ES256']) {
  const kid = `jose-${alg}-${type}`;
  const { publicKey, privateKey } = await generateKeyPair(alg);
  const token = await new SignJWT(claims).setProtectedHeader({ alg, kid, typ: type }).sign(privateKey);
  const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' };
  signed.push({ library: kid, jwk, token });
}
process.stdout.write(JSON.stringify(signed));
