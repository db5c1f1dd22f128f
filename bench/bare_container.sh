#!/bin/sh
# bare_container.sh SOCKET IMAGE COUNT [PREFIX]: COUNT containers one after the other, each created, started, waited for and removed
# with curl, nothing recorded: what jobc's containers are compared with. Several of these run at the same time.
set -eu
socket=$1 image=$2 count=$3
ask() { curl -sS --fail --unix-socket "$socket" "$@"; }
while [ "$count" -gt 0 ]; do
  id=$(ask -H 'Content-Type: application/json' -d "{\"Image\":\"$image\",\"Cmd\":[\"true\"],\"HostConfig\":{\"NetworkMode\":\"none\"}}" http://d/v1.41/containers/create)
  id=${id#*'"Id":"'} id=${id%%'"'*}
  ask -X POST "http://d/v1.41/containers/$id/start"
  ask -X POST "http://d/v1.41/containers/$id/wait" >/dev/null
  ask -X DELETE "http://d/v1.41/containers/$id"
  count=$((count - 1))
done
