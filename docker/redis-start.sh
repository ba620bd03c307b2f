#!/bin/sh
# Start Redis with the password of a secret. It goes through a file that only Redis may read, not through
# the command line, which every process of the host could see. Further arguments go to redis-server.
set -eu
umask 077

secret="${REDIS_PASSWORD_FILE:-/run/secrets/redis_password}"
config="${REDIS_RUN_DIR:-/run/redis}/redis.conf"

password="$(cat "$secret")"
case "$password" in
  "" | *[!A-Za-z0-9_-]*)
    echo "$secret must hold a password of letters, digits, _ and -" >&2
    exit 1
    ;;
esac

cat > "$config" <<CONFIG
bind * -::*
port 6379
dir ${REDIS_DATA_DIR:-/data}
requirepass $password
appendonly yes
appendfsync everysec
save ""
# a queue that forgets messages under pressure is none
maxmemory-policy noeviction
CONFIG

exec redis-server "$config" "$@"
