#!/bin/sh
# backup.sh FOLDER: a copy of the three databases and of every artifact in FOLDER/TIME.
# Runs beside running servers. A copy counts when SHA256SUMS stands in it, which is written last.
set -eu
target="$1/$(date -u +%Y%m%d-%H%M%S)"
umask 077
mkdir "$target" "$target/artifacts"
# Databases first: what they name was written before, and only `quartet gc` removes artifacts.
for database in prefect mlflow mlflow-auth; do
    pg_dump --format=custom --file="$target/$database.dump" "$database"
done
rclone copy --quiet "artifacts:$S3_BUCKET" "$target/artifacts"
(cd "$target" && find . -type f ! -name 'SHA256SUMS*' -exec sha256sum {} + > SHA256SUMS.new)
mv "$target/SHA256SUMS.new" "$target/SHA256SUMS"
echo "$target"
