/** MariaDB, PostgreSQL, Redis and RabbitMQ of Debian with their own clients, each behind its sidecar. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isRoot } from '../../test/harness.ts';
import { AppMesh, NOBODY } from '../apps.ts';
import { debian, have, pythonPackages } from '../install.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const MYSQL = 3306;
const POSTGRES = 5432;
const REDIS = 6379;
const AMQP = 5672;
const POSTGRES_BIN = '/usr/lib/postgresql';
const PYTHON = ['PyMySQL==1.1.1', 'pika==1.3.2'];

const run = promisify(execFile);
const sha = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
const postgresBin = (): string =>
  join(
    POSTGRES_BIN,
    readdirSync(POSTGRES_BIN)
      .sort((a, b) => Number(a) - Number(b))
      .at(-1) ?? '',
    'bin',
  );

export const suite: Suite = {
  name: 'databases',
  about: 'MariaDB, PostgreSQL, Redis and RabbitMQ with their own clients through two sidecars',
  unavailable: () =>
    isRoot ? undefined : 'needs root: clients of databases know no HTTP proxy, so the kernel must redirect them',
  inShortForm: true,
  async install(ctx) {
    // The short form takes what is there and is small; the whole one installs the servers.
    debian({
      'redis-server': 'redis-server',
      'redis-cli': 'redis-tools',
      ...(!ctx.short && {
        mariadbd: 'mariadb-server',
        mariadb: 'mariadb-client',
        psql: 'postgresql',
        'rabbitmq-server': 'rabbitmq-server',
        ss: 'iproute2',
      }),
    });
    pythonPackages('databases', PYTHON);
  },
  async run(ctx) {
    const tally = new Tally();
    const apps = new AppMesh(ctx);
    const mariadb = have('mariadbd') && have('mariadb');
    const postgres = have('psql') && postgresThere();
    const rabbit = !ctx.short && have('rabbitmq-server');
    const server = (name: string, port: number, command: string[], more: object = {}): void =>
      apps.add({ name, command, ports: [{ port, name: `tcp-${name}` }], runAsUser: NOBODY, ...more });

    server('redis', REDIS, ['redis-server', '--port', String(REDIS), '--protected-mode', 'no', '--save', '']);
    if (mariadb) {
      const template = mariadbTemplate(apps);
      addMariadb(apps, template, 'mariadb', 1, server);
      // What reaches it past its own proxy sees its true peer.
      addMariadb(apps, template, 'replica', 2, server, {
        'traffic.sidecar.istio.io/excludeInboundPorts': String(MYSQL),
      });
    } else tally.notes.push('MariaDB is not installed: left to the whole form');
    if (postgres) addPostgres(apps, server);
    else tally.notes.push('PostgreSQL is not installed: left to the whole form');
    if (rabbit) addRabbit(apps, server);
    apps.runner('client', { runAsUser: 0 });
    apps.runner('plain', {
      runAsUser: 0,
      annotations: { 'traffic.sidecar.istio.io/excludeOutboundPorts': String(MYSQL) },
    });
    await apps.start();

    // Connections on which nothing passes for long: all at once, and beside nothing else.
    const idle = new Map<string, () => Promise<void>>();
    await redisCases(ctx, tally, apps, idle);
    if (postgres) await postgresCases(ctx, tally, apps, idle);
    if (mariadb) await mariadbCases(tally, apps, idle, silence(ctx));
    await Promise.all([...idle].map(([name, quiet]) => tally.check(`${name}: nothing passes for long`, quiet)));
    if (mariadb) await mariadbFaults(ctx, tally, apps);
    if (rabbit) {
      await tally.check(
        'RabbitMQ: connect, 4 MB through a queue, silence, again',
        async () => {
          const python = join(pythonPackages('databases', PYTHON), 'python');
          const argv = [python, 'apps/rabbit.py', 'rabbit', '200', '20000', String(silence(ctx))];
          assert.match(await apps.must('client', argv, { timeoutMs: 150_000 }), /ok/);
        },
        160_000,
      );
    }
    return tally;
  },
};

const silence = (ctx: SuiteContext): number => (ctx.short ? 3 : 30);
const postgresThere = (): boolean => {
  try {
    return readdirSync(postgresBin()).includes('initdb');
  } catch {
    return false;
  }
};

type AddServer = (name: string, port: number, command: string[], more?: object) => void;

/** Some text that differs from line to line, of about this many bytes. */
function lines(bytes: number): string {
  const out: string[] = [];
  for (let i = 0, size = 0; size < bytes; i++) {
    const line = `${i}\t${sha(String(i)).repeat(8)}`;
    size += line.length + 1;
    out.push(line);
  }
  return `${out.join('\n')}\n`;
}

// ---- Redis

type Idle = Map<string, () => Promise<void>>;

async function redisCases(ctx: SuiteContext, tally: Tally, apps: AppMesh, idle: Idle): Promise<void> {
  const cli = ['redis-cli', '-h', 'redis', '-p', String(REDIS)];
  await tally.check('Redis: connect', async () => {
    assert.equal(await apps.must('client', [...cli, 'PING']), 'PONG\n');
  });
  await tally.check('Redis: 4 MB there and back', async () => {
    const text = lines(4_000_000);
    assert.equal(await apps.must('client', [...cli, '-x', 'SET', 'bulk'], { input: text }), 'OK\n');
    assert.equal(sha((await apps.must('client', [...cli, 'GET', 'bulk'])).replace(/\n$/, '')), sha(text));
  });
  await tally.check('Redis: 10,000 commands pipelined', async () => {
    const commands = Array.from({ length: 10_000 }, (_, i) => `INCRBY sum ${i}`).join('\n');
    await apps.must('client', [...cli, '--pipe'], { input: `${commands}\n` });
    assert.equal(await apps.must('client', [...cli, 'GET', 'sum']), `${(9999 * 10_000) / 2}\n`);
  });
  idle.set('Redis', async () => {
    const input = `PING\nBLPOP none ${silence(ctx)}\nPING\n`;
    assert.match(await apps.must('client', cli, { input }), /^PONG\n\s*PONG\n$/);
  });
}

// ---- PostgreSQL

function addPostgres(apps: AppMesh, server: AddServer): void {
  const data = apps.data('postgres');
  const script = [
    'set -e',
    '"$1/initdb" -D "$0/db" -U app --auth=trust --no-sync >/dev/null',
    'echo "host all all 0.0.0.0/0 trust" >> "$0/db/pg_hba.conf"',
    'exec "$1/postgres" -D "$0/db" -c listen_addresses="*" -c fsync=off -c unix_socket_directories="$0"',
  ].join('\n');
  server('postgres', POSTGRES, ['sh', '-c', script, data, postgresBin()]);
}

async function postgresCases(ctx: SuiteContext, tally: Tally, apps: AppMesh, idle: Idle): Promise<void> {
  const psql = (sql: string, input?: string): Promise<string> =>
    apps.must('client', ['psql', '-h', 'postgres', '-U', 'app', '-d', 'postgres', '-qAt', '-c', sql], {
      ...(input !== undefined && { input }),
      timeoutMs: 100_000,
    });
  await tally.check('PostgreSQL: connect', async () => {
    assert.equal(await psql('SELECT 6 * 7'), '42\n');
  });
  await tally.check('PostgreSQL: COPY of 4 MB there and back', async () => {
    const text = lines(4_000_000);
    await psql('CREATE TABLE bulk (id int PRIMARY KEY, text text)');
    await psql('COPY bulk FROM STDIN', text);
    assert.equal(sha(await psql('COPY (SELECT * FROM bulk ORDER BY id) TO STDOUT')), sha(text));
  });
  idle.set('PostgreSQL', async () => {
    assert.equal(await psql(`SELECT pg_sleep(${silence(ctx)}); SELECT 'awake'`), '\nawake\n');
  });
}

// ---- MariaDB

/** A fresh data folder, to be copied by every server. */
function mariadbTemplate(apps: AppMesh): string {
  const data = apps.data('template');
  execFileSync('setpriv', [
    ...['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups', 'mariadb-install-db', '--no-defaults'],
    ...[`--datadir=${data}`, '--auth-root-authentication-method=normal', '--skip-test-db', '--innodb-log-file-size=8M'],
  ]);
  return data;
}

function addMariadb(
  apps: AppMesh,
  template: string,
  name: string,
  id: number,
  server: AddServer,
  annotations?: Record<string, string>,
): void {
  const data = apps.data(name);
  execFileSync('cp', ['-a', `${template}/.`, data]);
  writeFileSync(
    join(data, 'init.sql'),
    `CREATE DATABASE IF NOT EXISTS app;
CREATE USER IF NOT EXISTS 'app'@'%' IDENTIFIED BY 'app';
GRANT ALL ON *.* TO 'app'@'%';
`,
  );
  const command = [
    ...[
      '/usr/sbin/mariadbd',
      '--no-defaults',
      `--datadir=${data}`,
      `--socket=${data}/socket`,
      `--pid-file=${data}/pid`,
    ],
    ...[`--port=${MYSQL}`, '--skip-name-resolve', `--init-file=${data}/init.sql`, `--server-id=${id}`, '--log-bin=log'],
    ...['--innodb-buffer-pool-size=32M', '--innodb-log-file-size=8M', '--innodb-flush-log-at-trx-commit=0'],
    // Probes connect and say nothing.
    ...['--max-connect-errors=1000000', '--binlog-format=ROW'],
  ];
  server(name, MYSQL, command, annotations ? { annotations } : {});
}

/** Gives SQL to the client of a runner. */
function mariadbClient(apps: AppMesh): (host: string, text: string, runner?: string) => Promise<string> {
  return (host, text, runner = 'client') =>
    apps.must(runner, ['mariadb', '--no-defaults', '-h', host, '-uapp', '-papp', '-N', 'app'], {
      input: text,
      timeoutMs: 100_000,
    });
}

async function mariadbCases(tally: Tally, apps: AppMesh, idle: Idle, silenceS: number): Promise<void> {
  const sql = mariadbClient(apps);
  await tally.check('MariaDB: connect, the server speaks first', async () => {
    assert.equal(await sql('mariadb', 'SELECT 6 * 7;'), '42\n');
  });
  await tally.check('MariaDB: the connection is mutual TLS at both ends', async () => {
    for (const [instance, reporter] of [
      ['mariadb', 'destination'],
      ['client', 'source'],
    ] as const) {
      const opened = await apps.metric(instance, 'istio_tcp_connections_opened_total', {
        ...{ reporter, destination_service_name: 'mariadb', source_workload: 'client' },
        ...(reporter === 'destination' && { connection_security_policy: 'mutual_tls' }),
      });
      assert.ok(opened > 0, `${instance} counted none`);
    }
  });
  await tally.check('MariaDB: 4 MB of INSERTs there and back', async () => {
    const text = lines(4_000_000);
    const rows = text.trimEnd().split('\n');
    const inserts: string[] = ['CREATE TABLE bulk (id INT PRIMARY KEY, text TEXT);'];
    for (let i = 0; i < rows.length; i += 500) {
      const values = rows.slice(i, i + 500).map((row) => `(${row.replace('\t', ",'")}')`);
      inserts.push(`INSERT INTO bulk VALUES ${values.join(',')};`);
    }
    await sql('mariadb', inserts.join('\n'));
    assert.equal(sha(await sql('mariadb', 'SELECT id, text FROM bulk ORDER BY id;')), sha(text));
  });
  idle.set('MariaDB', async () => {
    assert.equal(await sql('mariadb', `SELECT 1; SELECT SLEEP(${silenceS}); SELECT 2;`), '1\n0\n2\n');
  });
}

async function mariadbFaults(ctx: SuiteContext, tally: Tally, apps: AppMesh): Promise<void> {
  const sql = mariadbClient(apps);
  await tally.check('MariaDB: replication from a source through the mesh', async () => {
    await sql(
      'replica',
      `CHANGE MASTER TO MASTER_HOST='mariadb', MASTER_PORT=${MYSQL}, MASTER_USER='app', MASTER_PASSWORD='app',
       MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_SSL=0; START SLAVE;`,
    );
    const same = async (): Promise<void> => {
      const count = 'SELECT COUNT(*), COALESCE(SUM(CRC32(text)), 0) FROM app.bulk;';
      const wanted = await sql('mariadb', count);
      const end = performance.now() + 40_000;
      for (;;) {
        const got = await apps.run('client', [
          'mariadb',
          '--no-defaults',
          '-h',
          'replica',
          '-uapp',
          '-papp',
          '-N',
          '-e',
          count,
        ]);
        if (got.out === wanted) return;
        if (performance.now() > end) throw new Error(`the source has ${wanted.trim()}, the replica ${got.out.trim()}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    await same();
    await sql('mariadb', 'INSERT INTO bulk SELECT id + 1000000, REVERSE(text) FROM bulk;');
    await same();
    // A cut link: the replica comes again by itself and misses nothing.
    const cut = cutter(apps, 'replica', 'mariadb');
    assert.ok((await cut()) > 0, 'there was nothing to cut');
    await sql('mariadb', 'INSERT INTO bulk SELECT id + 2000000, text FROM bulk WHERE id < 1000;');
    await same();
  });
  const wanted = ctx.short ? 50 : 1000;
  await tally.check(
    `MariaDB: ${wanted} connections cut amid an INSERT, no row twice, none lost that was acknowledged`,
    async () => {
      await sql('mariadb', 'CREATE TABLE cuts (id INT NOT NULL);');
      const python = join(pythonPackages('databases', PYTHON), 'python');
      const told = { tried: 0, cuts: 0, known: [] as number[] };
      let row = 0;
      const insert = async (share: number): Promise<void> => {
        row += 1_000_000;
        const argv = [python, 'apps/inserts.py', 'mariadb', String(share), '60', String(row)];
        const one = JSON.parse(await apps.must('client', argv, { timeoutMs: 120_000 })) as typeof told;
        told.tried += one.tried;
        told.cuts += one.cuts;
        told.known.push(...one.known);
      };
      let over = false;
      const cut = cutter(apps, 'client', 'mariadb');
      const cutting = (async () => {
        while (!over) {
          await cut();
          await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 30));
        }
      })();
      try {
        // A cut ends what all of them have under way. A busy machine needs more than one round.
        for (let round = 0; round < 5 && told.cuts < wanted; round++) {
          const share = Math.ceil((wanted - told.cuts) / 4);
          await Promise.all([insert(share), insert(share), insert(share), insert(share)]);
        }
      } finally {
        over = true;
        await cutting;
      }
      assert.ok(told.cuts >= wanted, `only ${told.cuts} of ${told.tried} INSERTs were cut`);
      const rows = (await sql('mariadb', 'SELECT id FROM cuts;')).trim().split('\n').map(Number);
      assert.equal(new Set(rows).size, rows.length, `${rows.length - new Set(rows).size} rows are there twice`);
      const there = new Set(rows);
      assert.deepEqual(
        told.known.filter((id) => !there.has(id)),
        [],
        'acknowledged rows are missing',
      );
      tally.notes.push(`${told.cuts} INSERTs cut, ${told.known.length} acknowledged, ${rows.length} rows`);
    },
    ctx.short ? 130_000 : 400_000,
  );
  await tally.check('excludeOutboundPorts: 3306 leaves it plain, past the own proxy', async () => {
    const labels = { reporter: 'destination', destination_service_name: 'mariadb', connection_security_policy: 'none' };
    const before = await apps.metric('mariadb', 'istio_tcp_connections_opened_total', labels);
    assert.equal(await sql('mariadb', 'SELECT 1;', 'plain'), '1\n');
    assert.equal(await apps.metric('mariadb', 'istio_tcp_connections_opened_total', labels), before + 1);
    assert.equal(await apps.metric('plain', 'istio_tcp_connections_opened_total', { reporter: 'source' }), 0);
  });
  await tally.check('excludeInboundPorts: 3306 lets the server see its true peer', async () => {
    const peer = "SELECT SUBSTRING_INDEX(host, ':', 1) FROM information_schema.processlist WHERE id = CONNECTION_ID();";
    assert.equal((await sql('replica', peer, 'plain')).trim(), apps.address('plain'));
    // By the mesh it is the server's own proxy.
    assert.equal((await sql('replica', peer, 'client')).trim(), apps.address('replica'));
  });
}

/** Cuts the mesh links from one workload to another, as a broken network would; gives how many there were. */
function cutter(apps: AppMesh, from: string, to: string): () => Promise<number> {
  const row = apps.mesh.row(from);
  const argv = ['netns', 'exec', row.netns ?? '', 'ss', '-H', '-K', 'dst', apps.address(to), 'dport', '=', ':15008'];
  return async () => (await run('ip', argv)).stdout.split('\n').filter((line) => line !== '').length;
}

// ---- RabbitMQ

function addRabbit(apps: AppMesh, server: AddServer): void {
  const data = apps.data('rabbit');
  writeFileSync(join(data, 'rabbitmq.conf'), `loopback_users = none\nlisteners.tcp.default = ${AMQP}\n`);
  writeFileSync(join(data, 'enabled_plugins'), '[].\n');
  server('rabbit', AMQP, ['/usr/lib/rabbitmq/bin/rabbitmq-server'], {
    env: {
      HOME: data,
      RABBITMQ_NODENAME: 'weft@localhost',
      RABBITMQ_CONFIG_FILE: join(data, 'rabbitmq'),
      RABBITMQ_CONF_ENV_FILE: '/dev/null',
      RABBITMQ_MNESIA_BASE: data,
      RABBITMQ_LOG_BASE: data,
      RABBITMQ_PID_FILE: join(data, 'pid'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(data, 'enabled_plugins'),
    },
  });
}
