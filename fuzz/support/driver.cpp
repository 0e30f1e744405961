// SPDX-License-Identifier: Apache-2.0
/// @file Runs a fuzz target without libFuzzer: the corpus, then mutations of it that follow from a
/// seed alone.
///
///     fuzz_TARGET [--dictionary FILE] [--cases N] [FILE|FOLDER]...
///
/// Environment: GNOMON_SEED (1), GNOMON_CASES (how many mutations, before --cases), GNOMON_CASE
/// (only this one, and not the corpus). A failure leaves its input in the current folder and says
/// how to run it again.
#include "fuzz/support/input.h"
#include "fuzz/support/mutation.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

// There in builds with a sanitizer.
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

namespace gnomon::fuzz {
namespace {

constexpr std::size_t longest_input = 8192;
/// An input that takes this much processor time has hung.
constexpr int tick_seconds = 1, ticks_allowed = 30;
/// More memory than any input may take.
constexpr long resident_limit_kib = 2 * 1024 * 1024;

/// What is running, for signal handlers to tell; they can reach nothing but a global.
struct Running {
    const char* program = "";
    const char* name = ""; ///< of the target
    const char* file = nullptr;
    u64 seed = 0, number = 0;
    const u8* data = nullptr;
    std::size_t size = 0;
    u64 started = 0, started_at_tick = 0;
    int ticks = 0;
};
Running running;

void say(const char* format, auto... values) {
    char line[512];
    const int length = std::snprintf(line, sizeof line, format, values...);
    if (length > 0)
        static_cast<void>(
            !::write(STDERR_FILENO, line,
                     std::min<std::size_t>(static_cast<std::size_t>(length), sizeof line - 1)));
}

void tell() {
    if (running.data == nullptr) return;
    if (running.file != nullptr) {
        say("fuzz: %s failed on %s\n  again: %s %s\n", running.name, running.file, running.program,
            running.file);
    } else {
        char path[128];
        std::snprintf(path, sizeof path, "crash-%s-%llu-%llu", running.name,
                      static_cast<unsigned long long>(running.seed),
                      static_cast<unsigned long long>(running.number));
        if (std::FILE* file = std::fopen(path, "wb"); file != nullptr) {
            std::fwrite(running.data, 1, running.size, file);
            std::fclose(file);
        }
        say("fuzz: %s failed in case %llu of seed %llu; its input: %s\n  again: %s %s\n",
            running.name, static_cast<unsigned long long>(running.number),
            static_cast<unsigned long long>(running.seed), path, running.program, path);
    }
    running.data = nullptr;
}

void on_fatal_signal(int signal) {
    tell();
    std::signal(signal, SIG_DFL);
    ::raise(signal);
}

void check_memory() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    if (usage.ru_maxrss <= resident_limit_kib) return;
    say("fuzz: an input has taken more than %ld MiB of memory\n", resident_limit_kib / 1024);
    tell();
    ::_exit(1);
}

void on_tick(int) {
    check_memory();
    if (running.data == nullptr || running.started != running.started_at_tick) {
        running.started_at_tick = running.started;
        running.ticks = 0;
        return;
    }
    if (++running.ticks < ticks_allowed) return;
    say("fuzz: an input has run for more than %d s of processor time\n",
        tick_seconds * (ticks_allowed - 1));
    tell();
    ::_exit(1);
}

void run(const Bytes& input) {
    // A copy of just its size, so that reading beyond its end is seen.
    const auto exact = std::make_unique<u8[]>(input.size());
    std::copy(input.begin(), input.end(), exact.get());
    running.size = input.size();
    ++running.started;
    running.data = exact.get();
    static_cast<void>(LLVMFuzzerTestOneInput(exact.get(), input.size()));
    check_memory();
    running.data = nullptr;
}

std::optional<Bytes> read_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return std::nullopt;
    return Bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

u64 number_from_environment(const char* name, u64 otherwise) {
    const char* const text = std::getenv(name);
    return text != nullptr && *text != '\0' ? std::strtoull(text, nullptr, 0) : otherwise;
}

int run_all(std::span<char* const> arguments) {
    namespace fs = std::filesystem;
    const fs::path program(arguments.empty() ? "fuzz" : arguments.front());
    const std::string name = program.filename().string();
    std::vector<fs::path> files;
    std::vector<Bytes> dictionary;
    u64 cases = 0;
    for (std::size_t i = 1; i < arguments.size(); ++i) {
        const std::string_view argument(arguments[i]);
        if (argument == "--dictionary" && i + 1 < arguments.size()) {
            const auto text = read_file(arguments[++i]);
            if (!text) {
                say("fuzz: cannot read the dictionary %s\n", arguments[i]);
                return 2;
            }
            dictionary = parse_dictionary(std::string(text->begin(), text->end()));
        } else if (argument == "--cases" && i + 1 < arguments.size()) {
            cases = std::strtoull(arguments[++i], nullptr, 0);
        } else if (fs::is_directory(argument)) {
            for (const auto& entry : fs::directory_iterator(argument))
                if (entry.is_regular_file()) files.push_back(entry.path());
        } else {
            files.emplace_back(argument);
        }
    }
    std::sort(files.begin(), files.end());
    std::vector<Bytes> corpus;
    for (const fs::path& file : files) {
        auto bytes = read_file(file);
        if (!bytes) {
            say("fuzz: cannot read %s\n", file.c_str());
            return 2;
        }
        corpus.push_back(std::move(*bytes));
    }

    running.program = arguments.empty() ? "fuzz" : arguments.front();
    running.name = name.c_str();
    running.seed = number_from_environment("GNOMON_SEED", 1);
    const bool one = std::getenv("GNOMON_CASE") != nullptr;
    const u64 begin = number_from_environment("GNOMON_CASE", 0);
    const u64 end = one ? begin + 1 : number_from_environment("GNOMON_CASES", cases);
    if (!one)
        for (std::size_t i = 0; i < corpus.size(); ++i) {
            running.file = files[i].c_str();
            run(corpus[i]);
        }
    running.file = nullptr;
    for (u64 number = begin; number < end; ++number) {
        running.number = number;
        Random random(running.seed, number);
        run(mutate(random, corpus, dictionary, longest_input));
    }
    std::printf("%s: %zu entries of the corpus and %llu mutations of seed %llu\n", name.c_str(),
                one ? std::size_t{0} : corpus.size(), static_cast<unsigned long long>(end - begin),
                static_cast<unsigned long long>(running.seed));
    return 0;
}

} // namespace
} // namespace gnomon::fuzz

int main(int argc, char** argv) {
    using namespace gnomon::fuzz;
    if (__sanitizer_set_death_callback != nullptr)
        __sanitizer_set_death_callback(tell);
    else
        for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP})
            std::signal(signal, on_fatal_signal);
    std::signal(SIGABRT, on_fatal_signal);
    // Where there is an alternate stack: an input's own code may run here, and its stack is what is
    // compared.
    struct sigaction tick {};
    tick.sa_handler = on_tick;
    tick.sa_flags = SA_ONSTACK | SA_RESTART;
    sigemptyset(&tick.sa_mask);
    ::sigaction(SIGPROF, &tick, nullptr);
    const itimerval period{{tick_seconds, 0}, {tick_seconds, 0}};
    ::setitimer(ITIMER_PROF, &period, nullptr);
    return run_all(std::span<char* const>(argv, static_cast<std::size_t>(argc)));
}
