// SPDX-License-Identifier: Apache-2.0
// Hot loops for the JIT, garbage for the collector, threads; what it prints does not depend on timing.
import java.math.BigInteger;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.stream.*;

public class Work {
    static long hot(int n) {
        long h = 1125899906842597L;
        for (int i = 0; i < n; i++) h = 31 * h + (i ^ (h >>> 7));
        return h;
    }

    static double floats(int n) {
        double s = 0;
        for (int i = 1; i < n; i++) s += Math.sqrt(i) / (i + 1.5) - (float) i * 1e-7f;
        return s;
    }

    static int trees() {
        int total = 0;
        for (int i = 0; i < 40; i++) {
            List<int[]> garbage = new ArrayList<>();
            for (int j = 0; j < 2000; j++) garbage.add(new int[50 + j % 7]);
            total += garbage.stream().mapToInt(a -> a.length).sum();
        }
        return total;
    }

    public static void main(String[] args) throws Exception {
        long h = 0;
        for (int i = 0; i < 40; i++) h ^= hot(50000 + i);
        System.out.println("hot " + h);
        double f = 0;
        for (int i = 0; i < 20; i++) f += floats(30000 + i);
        System.out.printf("floats %.6f%n", f);
        System.out.println("garbage " + trees());
        ExecutorService pool = Executors.newFixedThreadPool(6);
        AtomicLong sum = new AtomicLong();
        ConcurrentHashMap<Integer, Integer> map = new ConcurrentHashMap<>();
        List<Future<Long>> results = new ArrayList<>();
        for (int t = 0; t < 12; t++) {
            final int me = t;
            results.add(pool.submit(() -> {
                long own = 0;
                for (int i = 0; i < 2000; i++) {
                    own += sum.addAndGet(0) * 0 + (long) i * me;
                    sum.addAndGet(i);
                    map.merge(i % 97, 1, Integer::sum);
                }
                return own;
            }));
        }
        long own = 0;
        for (Future<Long> r : results) own += r.get();
        pool.shutdown();
        System.out.println("threads " + own + " " + sum.get() + " " + map.values().stream().mapToInt(x -> x).sum());
        System.out.println("streams " + IntStream.range(0, 20000).parallel().filter(i -> i % 3 == 0).mapToLong(i -> i).sum());
        System.out.println("big " + BigInteger.TWO.pow(3000).mod(BigInteger.valueOf(1000000007)));
        try {
            Object o = null;
            System.out.println(o.hashCode());
        } catch (NullPointerException e) {
            System.out.println("null caught");
        }
        try {
            System.out.println(1 / (args.length * 0));
        } catch (ArithmeticException e) {
            System.out.println(e.getMessage());
        }
    }
}
