#!/bin/sh
# restore.sh BACKUP: put databases and artifacts back as they were; what is there now is dropped.
# No server may run meanwhile.
set -eu
source="$1"
[ -f "$source/SHA256SUMS" ] || {
    echo "$source is no whole backup: it has no SHA256SUMS; choose another" >&2
    exit 2
}
# Nothing is dropped before every byte of the copy was looked at.
(cd "$source" && sha256sum --check --quiet SHA256SUMS)
for pair in prefect:prefect mlflow:mlflow mlflow-auth:mlflow; do
    database="${pair%:*}"
    dropdb --if-exists --force "$database"
    createdb --owner="${pair#*:}" "$database"
    psql --quiet --dbname=postgres --command="REVOKE CONNECT ON DATABASE \"$database\" FROM PUBLIC"
    pg_restore --exit-on-error --dbname="$database" "$source/$database.dump"
done
rclone mkdir --quiet "artifacts:$S3_BUCKET"
rclone sync --quiet "$source/artifacts" "artifacts:$S3_BUCKET"
