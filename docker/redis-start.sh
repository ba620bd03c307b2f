#!/bin/sh
# Start Redis with the users of a secret (batchyard acl; docker/make_secrets.py makes it). Nobody comes in without
# one of them, so a file that leaves the user `default` on is refused. Further arguments go to redis-server.
set -eu
umask 077

users="${REDIS_USERS_FILE:-/run/secrets/redis_users}"
config="${REDIS_RUN_DIR:-/run/redis}/redis.conf"

if ! grep -q '^user default off ' "$users"; then
  echo "$users must hold the users of the yard, with the line: user default off …" >&2
  exit 1
fi

cat > "$config" <<CONFIG
bind * -::*
port 6379
dir ${REDIS_DATA_DIR:-/data}
aclfile $users
appendonly yes
appendfsync everysec
save ""
# a queue that forgets messages under pressure is none
maxmemory-policy noeviction
CONFIG

exec redis-server "$config" "$@"
