// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.h"

#include "cli/config_file.h"
#include "cli/help.h"
#include "cli/memory_size.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>

namespace gnomon::cli {

namespace {

/// The options as text: CLI11 finds them, and the functions below check them, so that every
/// complaint is one line in our own words.
struct RawMachineOptions {
    std::string kernel, initrd, append, memory, completions, stats, log_level, check_shadow,
        linear_views, perf_map, config;
    std::vector<std::string> disks;
    bool no_reboot = false, no_seccomp = false;
};

struct RawTraceOptions {
    std::vector<std::string> expressions;
    std::string output, string_limit, align_column, root, busybox, console;
    int timestamps = 0;
    bool follow = false, summary = false, summary_also = false, relative = false, duration = false,
         json = false, terminal = false;
};

void add_machine_options(CLI::App& app, RawMachineOptions& raw) {
    app.add_option("--kernel", raw.kernel)->take_last();
    app.add_option("--initrd", raw.initrd)->take_last();
    app.add_option("--append", raw.append)->take_last();
    app.add_option("--memory,-m", raw.memory)->take_last();
    app.add_option("--disk", raw.disks)->expected(1)->take_all()->allow_extra_args(false);
    app.add_option("--completions", raw.completions)->take_last();
    app.add_flag("--stats{text}", raw.stats)->take_last();
    app.add_option("--log-level", raw.log_level)->take_last();
    app.add_flag("--no-reboot", raw.no_reboot);
    app.add_flag("--no-seccomp", raw.no_seccomp);
    app.add_option("--check-shadow", raw.check_shadow)->take_last();
    app.add_option("--linear-views", raw.linear_views)->take_last();
    app.add_option("--perf-map", raw.perf_map)->take_last();
    app.add_option("--config", raw.config)->take_last();
}

void add_trace_options(CLI::App& app, RawTraceOptions& raw) {
    app.add_option("-e,--trace", raw.expressions)->expected(1)->take_all()->allow_extra_args(false);
    app.add_flag("-f,--follow-forks", raw.follow);
    app.add_option("-o,--output", raw.output)->take_last();
    app.add_flag("-c,--summary-only", raw.summary);
    app.add_flag("-C,--summary", raw.summary_also);
    app.add_option("-s,--string-limit", raw.string_limit)->take_last();
    app.add_option("-a,--columns", raw.align_column)->take_last();
    app.add_flag("-t", raw.timestamps);
    app.add_flag("-r", raw.relative);
    app.add_flag("-T", raw.duration);
    app.add_flag("--json", raw.json);
    app.add_option("--root", raw.root)->take_last();
    app.add_option("--busybox", raw.busybox)->take_last();
    app.add_option("--console", raw.console)->take_last();
    app.add_flag("--tty", raw.terminal);
}

Result<u32> parse_count(const std::string& text, const char* option) {
    u32 value = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    if (text.empty() || rest != end || error != std::errc{}) {
        return usage_error("{} '{}': a number from 0 to {} is needed", option, text, ~u32{0});
    }
    return value;
}

Result<MachineSettings> machine_settings(const CLI::App& app, const RawMachineOptions& raw) {
    MachineSettings settings;
    const auto given = [&](const char* name) { return app.count(name) > 0; };
    if (given("--kernel")) settings.kernel = raw.kernel;
    if (given("--initrd")) settings.initrd = raw.initrd;
    if (given("--append")) settings.append = raw.append;
    if (given("--no-reboot")) settings.no_reboot = raw.no_reboot;
    if (given("--no-seccomp")) settings.no_seccomp = raw.no_seccomp;
    if (given("--check-shadow")) {
        const auto interval = parse_count(raw.check_shadow, "--check-shadow");
        if (!interval) return tl::unexpected(interval.error());
        settings.check_shadow = *interval;
    }
    if (given("--linear-views")) {
        const auto views = parse_linear_views(raw.linear_views, "--linear-views");
        if (!views) return tl::unexpected(views.error());
        settings.linear_views = *views;
    }
    if (given("--perf-map")) {
        if (raw.perf_map.empty()) return usage_error("--perf-map: a file's name is needed");
        settings.perf_map = raw.perf_map;
    }
    if (given("--memory")) {
        const auto bytes = parse_memory_size(raw.memory, "--memory");
        if (!bytes) return tl::unexpected(bytes.error());
        settings.memory = *bytes;
    }
    for (const std::string& text : raw.disks) {
        auto disk = parse_disk(text, "--disk");
        if (!disk) return tl::unexpected(disk.error());
        if (!settings.disks) settings.disks.emplace();
        settings.disks->push_back(std::move(*disk));
    }
    if (given("--completions")) {
        const auto policy = monitor::parse_completion_policy(raw.completions, "--completions");
        if (!policy) return tl::unexpected(policy.error());
        settings.completions = *policy;
    }
    if (given("--stats")) {
        if (raw.stats != "text" && raw.stats != "json") {
            return usage_error("--stats={}: the formats are text and json", raw.stats);
        }
        settings.stats = raw.stats == "json" ? StatisticsFormat::json : StatisticsFormat::text;
    }
    if (given("--log-level")) {
        if (!is_log_level(raw.log_level)) {
            return usage_error("--log-level {}: the levels are {}", raw.log_level,
                               fmt::join(log_levels, ", "));
        }
        settings.log_level = raw.log_level;
    }
    if (given("--config")) {
        const auto file = read_config_file(raw.config);
        if (!file) return tl::unexpected(file.error());
        settings.complete_from(*file);
    }
    return settings;
}

/// -e's qualifiers as strace has them: "trace=LIST", its short form "t=LIST", or a bare LIST. The
/// last one counts, as in strace.
Result<std::string> trace_filter(const std::string& expression) {
    const std::string::size_type equals = expression.find('=');
    if (equals == std::string::npos) return expression;
    const std::string qualifier = expression.substr(0, equals);
    if (qualifier != "trace" && qualifier != "t") {
        return usage_error(
            "-e {}: only -e trace=LIST is there; for example -e trace=openat,%process", expression);
    }
    return expression.substr(equals + 1);
}

Result<TraceSettings> trace_settings(const CLI::App& app, const RawTraceOptions& raw) {
    TraceSettings settings;
    const auto given = [&](const char* name) { return app.count(name) > 0; };
    for (const std::string& expression : raw.expressions) {
        auto filter = trace_filter(expression);
        if (!filter) return tl::unexpected(filter.error());
        settings.filter = std::move(*filter);
    }
    trace::TraceOptions& options = settings.options;
    if (given("-s")) {
        const auto limit = parse_count(raw.string_limit, "-s");
        if (!limit) return tl::unexpected(limit.error());
        options.string_limit = *limit;
    }
    if (given("-a")) {
        const auto column = parse_count(raw.align_column, "-a");
        if (!column) return tl::unexpected(column.error());
        options.align_column = *column;
    }
    constexpr trace::TimestampStyle styles[] = {
        trace::TimestampStyle::none, trace::TimestampStyle::seconds,
        trace::TimestampStyle::microseconds, trace::TimestampStyle::epoch};
    if (raw.timestamps >= static_cast<int>(std::size(styles))) {
        return usage_error("-t can be given three times at most (-ttt)");
    }
    options.timestamps = styles[raw.timestamps];
    options.relative = raw.relative;
    options.duration = raw.duration;
    options.summary = raw.summary;
    options.summary_also = raw.summary_also;
    options.json = raw.json;
    options.output = raw.output;
    if (options.summary && options.summary_also) return usage_error("-c and -C exclude each other");
    if (options.json && (options.summary || options.summary_also)) {
        return usage_error("--json and -c exclude each other");
    }
    if (given("--output") && raw.output.empty()) return usage_error("-o: a file's name is needed");
    if (given("--root")) settings.root = raw.root;
    if (given("--busybox")) settings.busybox = raw.busybox;
    if (given("--console")) settings.console = raw.console;
    settings.terminal = raw.terminal;
    return settings;
}

/// The name by which the user gave the option that CLI11 calls `name`: of -o and --output, say, the
/// one in `arguments`.
std::string typed_name(const CLI::App& app, const std::string& name,
                       std::span<const std::string> arguments) {
    const CLI::Option* const option = app.get_option_no_throw(name);
    if (option == nullptr) return name;
    std::string typed = name;
    for (const std::string& argument : arguments) {
        for (const std::string& letter : option->get_snames())
            if (argument == "-" + letter) typed = argument;
    }
    return typed;
}

/// CLI11's complaint as one line.
Error complaint(const CLI::ParseError& error, const CLI::App& app, const char* command,
                std::span<const std::string> arguments) {
    const std::string text = error.what();
    if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
        const std::string name = typed_name(app, text.substr(0, text.find(':')), arguments);
        return Error{fmt::format("{} needs a value; see gnomon {}--help", name, command), true};
    }
    return Error{fmt::format("{}; see gnomon {}--help", text, command), true};
}

Error unexpected_arguments(const std::vector<std::string>& extras, const char* command) {
    const std::string& first = extras.front();
    if (first.size() > 1 && first[0] == '-') {
        return Error{fmt::format("there is no option {}; see gnomon {}--help", first, command),
                     true};
    }
    if (std::string_view(command) == "trace ") {
        return Error{fmt::format("unexpected '{}'; the command to trace goes behind '--': "
                                 "gnomon trace [OPTIONS] -- COMMAND [ARG...]",
                                 first),
                     true};
    }
    if (*command != '\0') {
        return Error{fmt::format("unexpected '{}'; see gnomon {}--help", first, command), true};
    }
    return Error{fmt::format("there is no command '{}'; the commands are run and trace", first),
                 true};
}

Invocation printed(std::string text) {
    Invocation invocation;
    invocation.text = std::move(text);
    return invocation;
}

} // namespace

Result<Invocation> parse_command_line(std::span<const std::string> arguments) {
    const auto separator = std::find(arguments.begin(), arguments.end(), "--");
    const bool has_command = separator != arguments.end();
    std::vector<std::string> options(arguments.begin(), separator);

    CLI::App app;
    app.set_version_flag("--version,-V", version_text());
    app.allow_extras();
    RawMachineOptions raw_machine;
    RawTraceOptions raw_trace;
    CLI::App* const run = app.add_subcommand("run")->allow_extras();
    add_machine_options(*run, raw_machine);
    CLI::App* const trace = app.add_subcommand("trace")->allow_extras();
    add_machine_options(*trace, raw_machine);
    add_trace_options(*trace, raw_trace);

    const auto chosen = [&]() -> const char* {
        return run->parsed() ? "run " : trace->parsed() ? "trace " : "";
    };
    // CLI11 reports by exceptions only; they end here.
    try {
        std::reverse(options.begin(), options.end()); // CLI11 takes them from the back
        app.parse(std::move(options));
    } catch (const CLI::CallForVersion&) {
        return printed(version_text() + "\n");
    } catch (const CLI::CallForHelp&) {
        return printed(run->parsed()     ? run_help()
                       : trace->parsed() ? trace_help()
                                         : general_help());
    } catch (const CLI::ParseError& error) {
        return tl::unexpected(
            complaint(error, trace->parsed() ? *trace : *run, chosen(), arguments));
    }

    for (const CLI::App* part :
         {static_cast<const CLI::App*>(run), static_cast<const CLI::App*>(trace),
          static_cast<const CLI::App*>(&app)}) {
        if (const auto extras = part->remaining(); !extras.empty()) {
            return tl::unexpected(unexpected_arguments(extras, chosen()));
        }
    }
    if (!run->parsed() && !trace->parsed()) {
        return usage_error("a command is needed, run or trace; see gnomon --help");
    }
    if (run->parsed() && trace->parsed()) return usage_error("one command at a time: run or trace");

    Invocation invocation;
    invocation.action = run->parsed() ? Invocation::Action::run : Invocation::Action::trace;
    auto machine = machine_settings(run->parsed() ? *run : *trace, raw_machine);
    if (!machine) return tl::unexpected(machine.error());
    invocation.machine = std::move(*machine);
    if (run->parsed()) {
        if (has_command)
            return usage_error("run takes no command; gnomon trace -- COMMAND runs one in a guest");
        if (!invocation.machine.kernel)
            return usage_error("run needs --kernel FILE; see gnomon run --help");
        return invocation;
    }
    auto traced = trace_settings(*trace, raw_trace);
    if (!traced) return tl::unexpected(traced.error());
    invocation.trace = std::move(*traced);
    if (has_command) {
        invocation.trace.command.assign(separator + 1, arguments.end());
        if (invocation.trace.command.empty()) return usage_error("a command is needed behind '--'");
        if (invocation.machine.initrd) {
            return usage_error(
                "--initrd is for a whole machine; for a command's files there is --root DIR");
        }
    } else if (invocation.trace.root || invocation.trace.busybox || invocation.trace.console ||
               invocation.trace.terminal) {
        return usage_error("--root, --busybox, --console and --tty need a command: "
                           "gnomon trace [OPTIONS] -- COMMAND");
    }
    return invocation;
}

} // namespace gnomon::cli
