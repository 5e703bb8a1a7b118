# SPDX-License-Identifier: Apache-2.0
# A cluster, pgbench on it from several clients, and whether the sums that its transactions keep are kept.
set -eu
bin=/usr/lib/postgresql/15/bin
mkdir -p /tmp/pg && chown postgres /tmp/pg && cd /tmp/pg
as() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
as "$bin/initdb" -D data -A trust --no-locale -E UTF8 >init.log 2>&1 || { tail init.log; exit 1; }
as "$bin/pg_ctl" -D data -w -t 300 -o "-k /tmp/pg -c listen_addresses= -c fsync=on" -l log start >start.log 2>&1 ||
    { tail log start.log; exit 1; }
sql() { as psql -h /tmp/pg -At postgres -c "$1"; }
as pgbench -h /tmp/pg -i -s 1 -q postgres >bench.log 2>&1 || { tail bench.log; exit 1; }
as pgbench -h /tmp/pg -c 4 -t 50 -n postgres >bench.log 2>&1 || { tail bench.log; exit 1; }
grep -E 'transactions actually|failed' bench.log
sql 'select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts) and
     sum(delta) = (select sum(tbalance) from pgbench_tellers) and
     sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history'
sql "select md5(string_agg(i::text, ',' order by (i * 7919) % 5003)) from generate_series(1, 5000) i"
sql 'select count(*), sum(aid) from pgbench_accounts'
sql 'create index on pgbench_accounts (filler, aid); analyze; select count(*) from pg_indexes where tablename = $$pgbench_accounts$$'
as "$bin/pg_ctl" -D data -w -t 300 stop >/dev/null
as "$bin/pg_controldata" data | grep 'cluster state'
