#!/bin/sh
# Print an environment file with fresh secrets for compose.yaml:  sh deploy/new_env.sh > .env
# Keep it: the pepper is part of every API key, and the passwords are those of the volumes made with it.
set -eu

secret() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

cat <<END
POSTGRES_PASSWORD=$(secret)
VALKEY_PASSWORD=$(secret)
GRADKEEL_PEPPER=$(secret)
# Names under which the service is reached, by commas, and the address to listen on:
GRADKEEL_TRUSTED_HOSTS=127.0.0.1,localhost
GRADKEEL_LISTEN=127.0.0.1:8080
# Which torch the worker's image gets; see the Dockerfile:
TORCH=torch
TORCH_INDEX=
END
