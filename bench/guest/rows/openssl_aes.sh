#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# OpenSSL's AES-128 in CBC mode, time for a MiB in blocks of 8 KiB.
# shellcheck source=bench/guest/rows/openssl.inc
. /bench/rows/openssl.inc
time_of_a_mebibyte "$1" aes-128-cbc
