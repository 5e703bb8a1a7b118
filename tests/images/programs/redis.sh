# SPDX-License-Identifier: Apache-2.0
redis-server --bind 127.0.0.1 --save '' --dir /tmp --daemonize yes --logfile /tmp/log >/dev/null || exit 1
n=0
until redis-cli ping 2>/dev/null | grep -q PONG; do
    n=$((n + 1)); [ $n -lt 150 ] || { cat /tmp/log; exit 2; }; sleep 0.2
done
redis-server --version
redis-cli set greeting 'hello from inside'
redis-cli get greeting
redis-cli incrbyfloat f 10.1; redis-cli incrbyfloat f 0.3
redis-cli rpush l c a b; redis-cli sort l alpha; redis-cli zadd z 1.5 x -inf y 2 w; redis-cli zrange z 0 -1 withscores
redis-cli hset h a 1 b 2; redis-cli pfadd hll a b c d e f; redis-cli pfcount hll; redis-cli setbit bits 1000 1
redis-cli bitcount bits; redis-cli geoadd g 13.361389 38.115556 P 15.087269 37.502669 C; redis-cli geodist g P C km
redis-cli eval 'local t={} for i=1,1000 do t[i]=i*i%97 end table.sort(t) return {redis.sha1hex("x"),t[500],cjson.encode({1,2.5}),struct.pack(">I2",258),tostring(2^0.5)}' 0
i=0; while [ $i -lt 500 ]; do echo "SET key:$i value-$i"; i=$((i + 1)); done | redis-cli --pipe | tail -n 1
redis-cli get key:499; redis-cli dbsize
redis-cli set big "$(head -c 100000 /dev/zero | tr '\0' b)"; redis-cli strlen big
redis-cli bgsave; n=0; until redis-cli info persistence | grep -q '^rdb_bgsave_in_progress:0'; do
    n=$((n + 1)); [ $n -lt 100 ] || exit 3; sleep 0.2; done
redis-cli info persistence | grep '^rdb_last_bgsave_status'
redis-check-rdb /tmp/dump.rdb | grep -o 'RDB looks OK'
redis-cli nosuch
redis-cli shutdown nosave; sleep 0.2
redis-cli ping; echo "gone: $?"
