// SPDX-License-Identifier: Apache-2.0
/// @file What holds a virtual disk's contents: the contract between disk controllers and the host's
/// files, block devices and servers.
#pragma once

#include "base/types.h"

#include <sys/uio.h>
#include <vector>

namespace gnomon::platform {

enum class BlockOperation : u8 {
    read,
    write,
    flush,        ///< what was done before it was submitted reaches stable storage
    write_zeroes, ///< reads back as zeroes
    discard,      ///< contents no longer matter; a hint
};

enum class BlockStatus : u8 {
    ok,
    io_error,     ///< the host's EIO, a short read, a file that shrank, a lost server
    no_space,     ///< ENOSPC, EDQUOT
    out_of_range, ///< beyond the end: found before anything is done
    read_only,    ///< a write to what is not to be written
};

/// One request, owned by the device. Between `submit` and `done` it must neither change nor die.
class BlockRequest {
public:
    BlockRequest() = default;
    BlockRequest(const BlockRequest&) = delete;
    BlockRequest& operator=(const BlockRequest&) = delete;
    virtual ~BlockRequest() = default;
    /// Once for each `submit`, on the machine's thread, from `BlockBackEnd::reap`. It may submit.
    virtual void done(BlockStatus status) = 0;

    BlockOperation operation = BlockOperation::read;
    bool fua = false; ///< of a write or write_zeroes: done when on stable storage
    u64 offset = 0;   ///< in bytes, a multiple of 512; flush: unused
    u64 size = 0;     ///< in bytes, a multiple of 512; reads and writes: the sum of `memory`
    std::vector<iovec> memory; ///< reads and writes: host memory, any alignment and number
};

/// Threads: the machine's for everything. Nothing blocks; what takes time happens elsewhere.
class BlockBackEnd {
public:
    BlockBackEnd() = default;
    BlockBackEnd(const BlockBackEnd&) = delete;
    BlockBackEnd& operator=(const BlockBackEnd&) = delete;
    /// Waits for the host to let go of the memory of what is under way; `done` is not called.
    virtual ~BlockBackEnd() = default;

    [[nodiscard]] virtual u64 size() const = 0; ///< in bytes, a multiple of 512
    [[nodiscard]] virtual bool read_only() const = 0;
    /// Whether its contents are a server's, behind a socket that is open.
    [[nodiscard]] virtual bool is_served() const { return false; }
    virtual void submit(BlockRequest& request) = 0;
    /// Hands what was submitted since to the host, where that is done in batches: at the end of a
    /// doorbell's work.
    virtual void commit() = 0;
    /// Calls `done` of all that is finished; returns how many that were.
    virtual unsigned reap() = 0;
    /// Readable while `reap` has something to do: for poll(2).
    [[nodiscard]] virtual int poll_descriptor() const = 0;
    /// Requests submitted whose `done` has not been called.
    [[nodiscard]] virtual unsigned under_way() const = 0;
};

} // namespace gnomon::platform
