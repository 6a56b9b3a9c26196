#!/bin/sh
# certificate.sh HOST [FOLDER]: a certificate authority of one's own and a certificate of it for
# HOST, for installations without a public one. FOLDER (default: tls beside this file) gets
# server.pem and server.key for nginx, and ca.pem, which clients and workers trust: this
# authority after those of the system.
set -eu
host="$1"
folder="${2:-$(dirname "$0")/tls}"
public="${PUBLIC_AUTHORITIES:-/etc/ssl/certs/ca-certificates.crt}"
umask 077
mkdir -p "$folder"
cd "$folder"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
    -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -subj "/CN=Quartet authority" -keyout authority.key -out authority.pem 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -subj "/CN=$host" -keyout server.key -out server.csr 2>/dev/null
printf 'subjectAltName=DNS:%s\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' \
    "$host" > server.ext
openssl x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
    -days 397 -extfile server.ext -out server.pem 2>/dev/null
rm server.csr server.ext
{ [ ! -f "$public" ] || cat "$public"; cat authority.pem; } > ca.pem
chmod 644 server.pem ca.pem authority.pem
chmod 755 .  # clients of this machine read ca.pem; keys stay their owner's
# nginx runs as account 101 in its container and must read its key.
[ "$(id -u)" != 0 ] || chown 101:101 server.key
ls -l server.pem server.key ca.pem
