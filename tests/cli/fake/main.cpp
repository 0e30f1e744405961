// SPDX-License-Identifier: Apache-2.0
/// @file gnomon with a fake machine and a tracer that only says what it was asked.
#include "fake_machine.h"

#include "cli/application.h"

#include <cstdio>

namespace gnomon::cli {

namespace {

class FakeObserver final : public TraceObserver {
public:
    explicit FakeObserver(TraceObserverSettings settings) : m_settings(std::move(settings)) {}
    monitor::SystemCallObserver* observer() override { return nullptr; }
    void when_nobody_reads(std::function<void()>) override {}
    Result<> finish() override {
        const trace::TraceOptions& options = m_settings.options;
        fmt::print(stderr, "traced filter={} limit={} style={} summary={} json={} output='{}'\n",
                   m_settings.filter.value_or("(all)"), options.string_limit,
                   static_cast<int>(options.timestamps), options.summary, options.json,
                   options.output);
        return {};
    }

private:
    TraceObserverSettings m_settings;
};

Result<std::unique_ptr<TraceObserver>> create_observer(const TraceObserverSettings& settings) {
    if (settings.filter == "nonsense") return usage_error("-e trace=nonsense: no such call");
    return std::make_unique<FakeObserver>(settings);
}

} // namespace

} // namespace gnomon::cli

int main(int argc, char** argv) {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    return gnomon::cli::run_application(
        arguments, {gnomon::cli::test::create_fake_machine, gnomon::cli::create_observer});
}
