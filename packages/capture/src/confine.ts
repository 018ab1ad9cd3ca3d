/** What a proxy is left with where `weft up` starts it: no way to more rights, and a view of files that it cannot change. */

/** What the start of a proxy needs as root, before it becomes its own user and has nothing: to read its code and its files. */
const START_CAPABILITIES = ['chown', 'dac_read_search', 'setgid', 'setuid'];

export interface Confinement {
  /** The one folder that it may write to; it does not see those beside it, which are other proxies'. */
  own: string;
  /** One more, beside it, that it shares with its application. */
  shared?: string | undefined;
  /** Where root, before it gives its rights up, keeps compiled code. */
  codeCache: string;
  /** It stays root to listen below 1024, with that right alone. */
  lowPorts: boolean;
}

/**
 * In a mount namespace of its own: everything read-only, and of the folders of all proxies its own alone. What the kernel
 * makes up (/proc, /sys) guards itself. Where a step cannot be done the proxy starts all the same, and says so: it is its
 * user that keeps it from other people's files, this is the second wall.
 */
const VIEW = `
own=$1; cache=$2; api=$3; shift 3
view() {
  shared=\${own%/*}
  exec 9<"$own" 8<"\${api:-$own}" &&
  mount -t tmpfs -o mode=0711,size=64k,nosuid,nodev,noexec weft "$shared" &&
  mkdir -m 0700 "$own" &&
  mount --no-canonicalize --bind /proc/self/fd/9 "$own" &&
  { [ -z "$api" ] || { mkdir -m 0700 "$api" && mount --no-canonicalize --bind /proc/self/fd/8 "$api"; }; } &&
  mount --bind "$cache" "$cache" || return 1
  exec 9<&- 8<&-
  done=
  while read -r _ place kind _; do
    case $kind in proc|sysfs|cgroup|cgroup2|devpts|mqueue|securityfs|debugfs|tracefs|bpf|pstore|configfs|fusectl|autofs|binfmt_misc|nsfs) continue;; esac
    case $place in *\\*) place=$(printf %b. "$place"); place=\${place%.};; esac
    case $place in "$own"|"$cache"|"$api") continue;; esac
    case $done in *"|$place|"*) continue;; esac
    done="$done|$place|"
    mount -o remount,bind,ro,nosuid "$place" || return 1
  done < /proc/self/mounts
}
view 2>/dev/null || echo 'weft: the files of this machine could not be made read-only for the proxy' >&2
exec "$@"
`;

/** What to put before a proxy's command, as root on Linux. Needs unshare, mount and setpriv (util-linux). */
export function confinedArgv(c: Confinement): string[] {
  const kept = c.lowPorts ? ['dac_read_search', 'net_bind_service'] : START_CAPABILITIES;
  return [
    ...['unshare', '--mount', '--propagation', 'slave', '--'],
    ...['sh', '-c', VIEW, 'weft-proxy', c.own, c.codeCache, c.shared ?? ''],
    ...unprivilegedArgv(),
    ...['--inh-caps=-all', `--bounding-set=-all,${kept.map((name) => `+${name}`).join(',')}`, '--'],
  ];
}

/** The part of it that an ordinary user can do; options of `setpriv` may follow. */
export function unprivilegedArgv(): string[] {
  return ['setpriv', '--no-new-privs'];
}
