# SPDX-License-Identifier: Apache-2.0
import ssl, json, hashlib, decimal, array, cmath, ctypes, fractions, lzma, math, bz2, random, re, sqlite3
import struct, subprocess, sys, threading, zlib, fcntl, mmap, os, select, signal, socket, tempfile
print(sys.version, ssl.OPENSSL_VERSION, len(ssl.create_default_context().get_ciphers()))
data = bytes(i * i % 251 for i in range(200000))
for name in sorted(hashlib.algorithms_guaranteed):
    h = hashlib.new(name, data)
    print(name, h.hexdigest(16) if name.startswith('shake') else h.hexdigest())
print(hashlib.pbkdf2_hmac('sha512', b'x', b'y', 500).hex(), hashlib.scrypt(b'p', salt=b's', n=256, r=8, p=1).hex())
for z in (zlib, bz2, lzma):
    c = z.compress(data); print(z.__name__, len(c), zlib.crc32(c), z.decompress(c) == data)
decimal.getcontext().prec = 120
print(decimal.Decimal(2).sqrt(), decimal.Decimal(1).exp(), decimal.Decimal(10).ln())
print(json.dumps({'a': [1, 2.5, None, 1e300, 0.1 + 0.2, -0.0], 'b': '\u00e9\U0001f600'}, sort_keys=True))
print(json.loads('[1e-320, 123456789012345678901234567890, "\\ud83d\\ude00"]'))
for f in ('sin cos tan asin acos atan sinh tanh exp expm1 log1p log2 gamma lgamma erf cbrt').split():
    print(f, *(getattr(math, f)(x).hex() for x in (0.1, 0.5, 0.9999)))
print(math.sin(1e22).hex(), cmath.sqrt(-1 + 2j), math.fsum([.1] * 10), round(2.675, 2), float('nan'), -1e308 * 10)
print(math.fmod(1e300, 7.1), math.nextafter(1, 2), divmod(-7.5, 2), fractions.Fraction(0.1).limit_denominator(999))
print(ctypes.c_longdouble(0.1).value, ctypes.CDLL(None).abs(-5), struct.pack('<e', 1.1).hex())
random.seed(42); print([random.gauss(0, 1) for _ in range(3)], random.sample(range(1000), 5))
print(pow(3, 10**40, 10**50 + 151), str(7**3000)[-40:], int.bit_length(5**9999))
print(re.sub(r'(?P<w>\w+) (?=\w)', r'<\g<w>>', 'the quick brown fox'), sorted('\u00dfZa\u00e9'), 'İ'.lower())
db = sqlite3.connect(':memory:')
db.execute('create table t(a integer, b real)')
db.executemany('insert into t values(?,?)', [(i, i / 7) for i in range(3000)])
print(db.execute('select count(*), sum(a*b), avg(b), max(b) from t where a % 3 = 1').fetchone())
total, lock = [0], threading.Lock()
def work(n):
    for i in range(2000):
        with lock: total[0] += n
ts = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]; print(total)
# TLS with no certificate: an anonymous key exchange between two ends in memory.
def end(side):
    c = ssl.SSLContext(side); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
    c.maximum_version = ssl.TLSVersion.TLSv1_2; c.set_ciphers('AECDH-AES256-SHA:@SECLEVEL=0'); return c
ab, ba = ssl.MemoryBIO(), ssl.MemoryBIO()
cl = end(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ba, ab); sv = end(ssl.PROTOCOL_TLS_SERVER).wrap_bio(ab, ba, server_side=True)
todo = [cl, sv, cl, sv, cl, sv]
for e in todo:
    try: e.do_handshake()
    except ssl.SSLWantReadError: pass
cl.write(data[:16000]); print(cl.version(), cl.cipher(), sv.read(16000) == data[:16000])
a, b = socket.socketpair(); a.send(b'ping'); print(select.select([b], [], [], 5)[0] == [b], b.recv(9))
with tempfile.TemporaryFile() as f:
    f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 0); m[4096:4100] = b'page'; m.flush(); f.seek(4096); print(f.read(4))
code = compile('def f():\n return ' + '+'.join(map(str, range(300))), 'x', 'exec'); exec(code); print(f())
print(subprocess.run(['sh', '-c', 'read x; echo got $x; exit 4'], input=b'line\n', capture_output=True))
print(subprocess.run([sys.executable, '-c', 'import os; os.abort()']).returncode)
print(subprocess.run([sys.executable, '-c', 'import ctypes; ctypes.string_at(0)']).returncode)
print('to stderr', file=sys.stderr); sys.exit(9)
