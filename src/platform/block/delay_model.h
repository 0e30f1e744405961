// SPDX-License-Identifier: Apache-2.0
/// @file How long a disk's physical counterpart takes.
#pragma once

#include "platform/block/block_back_end.h"

namespace gnomon::platform {

/// Asked once for each request, in the order in which the guest makes them. Threads: the machine's.
class DelayModel {
public:
    DelayModel() = default;
    DelayModel(const DelayModel&) = delete;
    DelayModel& operator=(const DelayModel&) = delete;
    virtual ~DelayModel() = default;

    /// The nominal delay in ns of a request that is made now, behind all that were made before; 0:
    /// there is none. Looks at operation, fua, offset and size only.
    [[nodiscard]] virtual u64 nominal_ns(const BlockRequest& request) = 0;
    /// One of the requests that were asked for has come to its end. If that was before its time,
    /// the disk is as far as it would have been then: what comes next does not queue behind what
    /// nobody waits for. To be called once for each `nominal_ns`.
    virtual void ended() {}
    /// The same for a command that touches no medium: to identify, to set a feature.
    [[nodiscard]] virtual u64 command_ns() const = 0;
};

/// No physical counterpart.
class NoDelay final : public DelayModel {
public:
    [[nodiscard]] u64 nominal_ns(const BlockRequest&) override { return 0; }
    [[nodiscard]] u64 command_ns() const override { return 0; }
};

} // namespace gnomon::platform
