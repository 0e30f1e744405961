#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# OpenSSL's RSA with 2048 bits, time for a signature.
# shellcheck source=bench/guest/rows/openssl.inc
. /bench/rows/openssl.inc
time_of_a_signature "$1" rsa2048
