// SPDX-License-Identifier: Apache-2.0
const crypto = require('crypto'), zlib = require('zlib'), { Worker } = require('worker_threads');
console.log(process.version, process.arch, process.versions.v8);
let s = 0; for (let i = 0; i < 5e6; i++) s = (s * 31 + i) | 0;            // optimised by the JIT
let f = 0; for (let i = 1; i < 1e6; i++) f += Math.sqrt(i) / (i & 7 | 1);
const poly = (o) => o.x + 1; let p = 0;                                   // and thrown out of it again
for (let i = 0; i < 2e5; i++) p += poly(i < 1e5 ? { x: i } : i & 1 ? { y: 1, x: 1.5 } : { x: i });
console.log(s, f, p, poly({ x: 'str' }));
console.log((2n ** 521n - 1n) % 1000000007n, (3n ** 700n).toString(36), BigInt.asIntN(64, 2n ** 63n), -7n / 2n);
const fa = new Float64Array(1000).map((_, i) => Math.sin(i) * Math.exp(i / 100));
console.log(fa.reduce((a, b) => a + b), Math.fround(0.1), Math.hypot(3, 4.1), Math.imul(0x7fffffff, 3), 5e-324, (0.1).toString(3));
console.log(Math.clz32(77), (1e21 + 7).toFixed(2), parseFloat('1.7976931348623157e308'), (25).toString(36), 1e300 * 1e10, ~~-3.7);
const obj = { a: [1, 2.5, null, -0], s: 'é😀\u2028', d: new Date(0), n: { deep: [[[]]] } };
console.log(JSON.stringify(obj), JSON.parse('{"__proto__":1,"x":1e400}').x, structuredClone(new Map([[1, new Set('aab')]])));
console.log('aXbXc'.replace(/x/gi, (m, o) => o), /(?<y>\d{4})-(?<m>\d\d)/u.exec('on 2024-05-06').groups.y, [...'👍é'].length);
console.log('ǅ'.toLowerCase(), 'ﬀ'.normalize('NFKC'), new Intl.NumberFormat('de-DE').format(1234567.891), ['ä', 'a', 'z'].sort(new Intl.Collator('sv').compare));
const data = Buffer.alloc(300000, 'abc\x00\xff'), key = Buffer.alloc(32, 7), iv = Buffer.alloc(12, 9);
for (const h of ['md5', 'sha1', 'sha256', 'sha512', 'sha3-256', 'blake2b512', 'ripemd160', 'sm3'])
  console.log(h, crypto.createHash(h).update(data).digest('hex'));
for (const name of ['aes-256-gcm', 'chacha20-poly1305']) {
  const c = crypto.createCipheriv(name, key, iv, { authTagLength: 16 });
  const out = Buffer.concat([c.update(data), c.final()]);
  console.log(name, crypto.createHash('md5').update(out).digest('hex'), c.getAuthTag().toString('hex'));
}
const ctr = crypto.createCipheriv('aes-128-ctr', key.subarray(16), Buffer.alloc(16, 1));
console.log('ctr', crypto.createHash('md5').update(ctr.update(data)).digest('hex'), crypto.pbkdf2Sync('p', 's', 300, 20, 'sha256').toString('hex'));
const ed = crypto.createPrivateKey({ format: 'der', type: 'pkcs8', key: Buffer.from('302e020100300506032b657004220420' + '11'.repeat(32), 'hex') });
console.log('ed25519', crypto.sign(null, data, ed).toString('base64'));
const pair = crypto.generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
console.log('p256', crypto.verify('sha256', data, pair.publicKey, crypto.sign('sha256', data, pair.privateKey)));
for (const [n, pack, un] of [['gzip', zlib.gzipSync, zlib.gunzipSync], ['br', zlib.brotliCompressSync, zlib.brotliDecompressSync]])
  console.log(n, un(pack(data)).equals(data), pack(data).length);
// (i32) -> i64: the factorial as a loop, in 64-bit arithmetic.
const wasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 126, 1, 126, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 39, 1, 37, 1, 1, 126,
  66, 1, 33, 1, 2, 64, 3, 64, 32, 0, 80, 13, 1, 32, 1, 32, 0, 126, 33, 1, 32, 0, 66, 1, 125, 33, 0, 12, 0, 11, 11, 32, 1, 11]);
console.log('wasm', new WebAssembly.Instance(new WebAssembly.Module(wasm)).exports.f(20n), new WebAssembly.Memory({ initial: 4 }).buffer.byteLength);
console.log([...(function* () { let [a, b] = [0, 1]; for (;;) { if (a > 99) return; yield a; [a, b] = [b, a + b]; } })()].join());
const junk = []; for (let i = 0; i < 3e5; i++) junk[i % 5000] = { i, t: 'x' + i };   // the collector
console.log(junk.reduce((a, j) => a + j.i, 0));
const w = new Worker('const{parentPort:p,workerData:d}=require("worker_threads");let s=0;for(let i=0;i<d;i++)s+=i%7;p.postMessage(s)', { eval: true, workerData: 1e6 });
w.on('message', async (m) => {
  console.log('worker', m, await Promise.all([1, 2].map(async (x) => { await new Promise((r) => setTimeout(r, 20 / x)); return x * 2; })));
  const http = require('http').createServer((q, r) => r.end('hi ' + q.url)).listen(0, '127.0.0.1', () =>
    fetch(`http://127.0.0.1:${http.address().port}/there`).then((r) => r.text()).then((t) => {
      console.log(t, require('child_process').execSync('echo $((6*7))').toString().trim());
      console.error('to stderr'); process.exitCode = 6; http.close();
    }));
});
