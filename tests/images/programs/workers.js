// SPDX-License-Identifier: Apache-2.0
// Worker threads on shared memory, with locks of their own; what it prints does not depend on timing.
const { Worker, isMainThread, workerData, parentPort } = require('worker_threads');
const WORKERS = 4, ROUNDS = 3000;
if (isMainThread) {
    const shared = new SharedArrayBuffer(1024);
    const cells = new Int32Array(shared);
    let done = 0, hashes = [];
    for (let id = 0; id < WORKERS; id++) {
        const w = new Worker(process.argv[1], { workerData: { id, shared } });
        w.on('message', (m) => { hashes[id] = m; });
        w.on('exit', (code) => {
            if (code) console.log('worker', id, 'ended with', code);
            if (++done === WORKERS) console.log('atomics', cells[0], 'locked', cells[2], 'hashes', hashes.join(' '));
        });
    }
} else {
    const cells = new Int32Array(workerData.shared);
    let h = workerData.id + 1;
    for (let i = 0; i < ROUNDS; i++) {
        Atomics.add(cells, 0, i % 10);
        while (Atomics.compareExchange(cells, 1, 0, 1) !== 0) Atomics.wait(cells, 1, 1, 1);
        cells[2] += 1;
        Atomics.store(cells, 1, 0);
        Atomics.notify(cells, 1, 1);
        for (let j = 0; j < 50; j++) h = (Math.imul(h, 1103515245) + 12345 + j) | 0;
    }
    parentPort.postMessage(h >>> 0);
}
