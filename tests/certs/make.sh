#!/bin/sh
# tests/certs/make.sh: makes the certificates of the TLS tests anew, with the openssl command.
#
# A certificate authority of our own (ca.pem), and what it signs: a server (localhost,
# 127.0.0.1), a client, and a server whose time is over. Each .pem but ca.pem has the
# certificate and its key; the authority's own key is thrown away. They are valid for a
# hundred years, protect nothing and are trusted by nobody but these tests.
set -eu

cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

# sign NAME START END EXTENSIONS [OPTION]: times are YYYYMMDDHHMMSSZ.
sign() {
  new_key "$work/$1.key"
  openssl req -new -key "$work/$1.key" -subj "/O=mioloop tests/CN=$1" -out "$work/$1.csr"
  printf '%s\n' "$4" >"$work/$1.ext"
  openssl ca -batch -notext -config "$work/ca.conf" -in "$work/$1.csr" -out "$work/$1.crt" \
    -startdate "$2" -enddate "$3" -extfile "$work/$1.ext" ${5:-} 2>"$work/log" || {
    cat "$work/log" >&2
    exit 1
  }
  cat "$work/$1.crt" "$work/$1.key" >"$1.pem"
}

cat >"$work/ca.conf" <<EOF
[ca]
default_ca = own
[own]
dir = $work
new_certs_dir = $work
database = $work/index.txt
rand_serial = yes
certificate = $work/authority.crt
private_key = $work/authority.key
default_md = sha256
policy = any
[any]
organizationName = supplied
commonName = supplied
EOF
: >"$work/index.txt"

sign authority 20250101000000Z 21250101000000Z "basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash" -selfsign
cp "$work/authority.crt" ca.pem
rm authority.pem

host="subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid"
sign server 20250101000000Z 21250101000000Z "$host"
sign expired 20200101000000Z 20210101000000Z "$host"
sign client 20250101000000Z 21250101000000Z "extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid"
