// SPDX-License-Identifier: Apache-2.0
/// @file The whole program, but each of its disks has a volatile cache in the process's memory:
/// what the guest was not told is flushed is lost when the process is killed.
#include "cli/application.h"
#include "support/dropping_back_end.h"

namespace {

gnomon::Result<std::unique_ptr<gnomon::monitor::Machine>>
create_with_caches(gnomon::monitor::MachineOptions options) {
    for (gnomon::monitor::Disk& disk : options.disks)
        disk.back_end = std::make_unique<gnomon::test::DroppingBackEnd>(std::move(disk.back_end));
    return gnomon::monitor::Machine::create(std::move(options));
}

} // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    return gnomon::cli::run_application(arguments,
                                        {create_with_caches, gnomon::cli::TraceObserver::create});
}
