// SPDX-License-Identifier: Apache-2.0
#include "cli/application.h"

int main(int argc, char** argv) {
    const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    return gnomon::cli::run_application(
        arguments, {gnomon::monitor::Machine::create, gnomon::cli::TraceObserver::create});
}
