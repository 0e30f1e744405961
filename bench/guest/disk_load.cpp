// SPDX-License-Identifier: Apache-2.0
// The load of bench/io.sh: the init of a guest with one disk, or a program on the host. Requests
// past the page cache by Linux's asynchronous I/O (io_submit), `depth` of them under way at any
// time. Parameters, on the kernel's command line or as arguments:
//
//     io.device=PATH io.milliseconds=N io.jobs=JOB[,JOB...] [io.interrupts=TEXT]
//
// JOB is PATTERN_SIZE_DEPTH: PATTERN one of randread, randwrite, read, write; SIZE in KiB.
// io.interrupts: what the lines of /proc/interrupts that count contain. As init it first loads
// /modules/* in the order of their names. The lines, times in nanoseconds of CLOCK_MONOTONIC:
//
//     READY
//     BEGIN job time
//     ROW job value ns        of the whole run by its requests
//     IO job requests=N p50=NS p99=NS max=NS interrupts=N
//     FAIL job text           or: what went wrong
//     END job time
//     DONE
//
// Latencies are taken with RDTSC, which no monitor has to make a system call of, and given in
// nanoseconds by what the counter and the clock have gone over the job.
#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <vector>
#include <x86intrin.h>

namespace bench {

namespace {

using std::uint64_t;

struct Parameters {
    std::string device, interrupts;
    std::vector<std::string> jobs;
    unsigned milliseconds = 0;
};

struct Job {
    std::string name;
    bool random = false, write = false;
    unsigned size = 0; ///< bytes
    unsigned depth = 0;
};

uint64_t now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000U +
           static_cast<uint64_t>(time.tv_nsec);
}

/// One line with one write, so that the kernel's own messages do not come between.
[[gnu::format(printf, 1, 2)]] void say(const char* format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = std::vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    length = std::clamp(length, 0, static_cast<int>(sizeof line) - 2);
    line[length] = '\n';
    // Nobody is left to tell if this fails.
    [[maybe_unused]] const ssize_t written =
        write(STDOUT_FILENO, line, static_cast<std::size_t>(length) + 1);
}

std::vector<std::string> split(std::string_view text, std::string_view separators) {
    std::vector<std::string> parts;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find_first_of(separators), text.size());
        if (end != 0) parts.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
}

/// 1 to 999999, or 0 if it is no such number.
unsigned number(std::string_view text) {
    unsigned value = 0;
    if (text.empty() || text.size() > 6) return 0;
    for (const char c : text) {
        if (c < '0' || c > '9') return 0;
        value = value * 10 + static_cast<unsigned>(c - '0');
    }
    return value;
}

Parameters parse(const std::vector<std::string>& words) {
    Parameters parameters;
    for (const std::string& word : words) {
        const std::size_t equals = word.find('=');
        if (equals == std::string::npos) continue;
        const std::string name = word.substr(0, equals), value = word.substr(equals + 1);
        if (name == "io.device") parameters.device = value;
        if (name == "io.interrupts") parameters.interrupts = value;
        if (name == "io.jobs") parameters.jobs = split(value, ",");
        if (name == "io.milliseconds") parameters.milliseconds = number(value);
    }
    return parameters;
}

bool parse_job(const std::string& name, Job& job) {
    const auto parts = split(name, "_");
    if (parts.size() != 3) return false;
    job.name = name;
    job.random = parts[0].starts_with("rand");
    const std::string direction = job.random ? parts[0].substr(4) : parts[0];
    job.write = direction == "write";
    const unsigned size = number(parts[1]);
    job.depth = number(parts[2]);
    job.size = size * 1024;
    return (job.write || direction == "read") && size >= 1 && size <= 1024 && job.depth >= 1 &&
           job.depth <= 256;
}

/// What the kernel has counted of the lines that contain `text`, on all processors.
uint64_t interrupts(const std::string& text) {
    if (text.empty()) return 0;
    FILE* const file = std::fopen("/proc/interrupts", "re");
    if (file == nullptr) return 0;
    uint64_t sum = 0;
    char line[1024];
    while (std::fgets(line, sizeof line, file) != nullptr) {
        if (std::strstr(line, text.c_str()) == nullptr) continue;
        const char* at = std::strchr(line, ':');
        while (at != nullptr) {
            char* end = nullptr;
            const uint64_t count = std::strtoull(at + 1, &end, 10);
            if (end == at + 1 || (*end != ' ' && *end != '\n')) break;
            sum += count;
            at = *end == ' ' ? end : nullptr;
        }
    }
    std::fclose(file);
    return sum;
}

/// Requests to one file, a fixed number of them under way.
class Load {
public:
    Load(const Job& job, int file, uint64_t blocks) : m_job(job), m_file(file), m_blocks(blocks) {}
    Load(const Load&) = delete;
    Load& operator=(const Load&) = delete;
    ~Load() {
        if (m_context != 0) syscall(SYS_io_destroy, m_context);
        std::free(m_memory);
    }

    /// False, with a line, if it cannot go on.
    bool run(unsigned milliseconds) {
        m_memory = static_cast<unsigned char*>(
            std::aligned_alloc(4096, std::size_t{m_job.size} * m_job.depth));
        if (m_memory == nullptr) return fail("no memory", ENOMEM);
        for (std::size_t i = 0; i < std::size_t{m_job.size} * m_job.depth; ++i)
            m_memory[i] = static_cast<unsigned char>(next_random());
        if (syscall(SYS_io_setup, m_job.depth, &m_context) != 0) return fail("io_setup", errno);
        m_requests.resize(m_job.depth);
        m_started.resize(m_job.depth);

        const uint64_t begin = now(), first_tick = __rdtsc();
        const uint64_t until = begin + uint64_t{milliseconds} * 1'000'000;
        std::vector<iocb*> ready;
        for (unsigned i = 0; i < m_job.depth; ++i)
            ready.push_back(prepare(i));
        unsigned under_way = 0;
        std::vector<io_event> events(m_job.depth);
        while (!ready.empty() || under_way != 0) {
            if (!ready.empty()) {
                const uint64_t tick = __rdtsc();
                for (const iocb* one : ready)
                    m_started[one->aio_data] = tick;
                const long sent = syscall(SYS_io_submit, m_context, ready.size(), ready.data());
                if (sent <= 0) return fail("io_submit", errno);
                under_way += static_cast<unsigned>(sent);
                ready.erase(ready.begin(), ready.begin() + sent);
            }
            const long got =
                syscall(SYS_io_getevents, m_context, 1L, long{m_job.depth}, events.data(), nullptr);
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) return fail("io_getevents", errno);
            const uint64_t tick = __rdtsc();
            const bool more = now() < until;
            for (long i = 0; i < got; ++i) {
                const io_event& event = events[static_cast<std::size_t>(i)];
                if (event.res != m_job.size)
                    return fail("a request", event.res < 0 ? static_cast<int>(-event.res) : 0);
                m_latencies.push_back(tick - m_started[event.data]);
                if (more) ready.push_back(prepare(static_cast<unsigned>(event.data)));
            }
            under_way -= static_cast<unsigned>(got);
        }
        m_ticks = __rdtsc() - first_tick;
        m_nanoseconds = now() - begin;
        return true;
    }

    [[nodiscard]] std::size_t requests() const { return m_latencies.size(); }
    [[nodiscard]] uint64_t nanoseconds() const { return m_nanoseconds; }
    /// In nanoseconds. @param of_hundred up to 100
    [[nodiscard]] double percentile(unsigned of_hundred) {
        const std::size_t last = m_latencies.size() - 1;
        const auto at = m_latencies.begin() + static_cast<std::ptrdiff_t>(last * of_hundred / 100);
        std::nth_element(m_latencies.begin(), at, m_latencies.end());
        return static_cast<double>(*at) * static_cast<double>(m_nanoseconds) /
               static_cast<double>(m_ticks);
    }

private:
    iocb* prepare(unsigned index) {
        iocb& request = m_requests[index];
        request = {};
        const uint64_t block = m_job.random ? next_random() % m_blocks : m_next++ % m_blocks;
        request.aio_data = index;
        request.aio_lio_opcode = m_job.write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
        request.aio_fildes = static_cast<std::uint32_t>(m_file);
        request.aio_buf =
            reinterpret_cast<std::uintptr_t>(m_memory + std::size_t{index} * m_job.size);
        request.aio_nbytes = m_job.size;
        request.aio_offset = static_cast<std::int64_t>(block * m_job.size);
        return &request;
    }

    /// xorshift64: the same places everywhere.
    uint64_t next_random() {
        m_random ^= m_random << 13;
        m_random ^= m_random >> 7;
        m_random ^= m_random << 17;
        return m_random;
    }

    bool fail(const char* what, int error) {
        say("FAIL %s %s: %s", m_job.name.c_str(), what,
            error == 0 ? "shorter than asked for" : std::strerror(error));
        return false;
    }

    const Job& m_job;
    int m_file;
    uint64_t m_blocks; ///< of the job's size
    uint64_t m_next = 0, m_random = 0x9e3779b97f4a7c15;
    aio_context_t m_context = 0;
    unsigned char* m_memory = nullptr;
    std::vector<iocb> m_requests;
    std::vector<uint64_t> m_started, m_latencies; ///< in ticks
    uint64_t m_ticks = 0, m_nanoseconds = 0;
};

/// Bytes of a block device or a file; 0 if unknown.
uint64_t size_of(int file) {
    struct stat status {};
    uint64_t bytes = 0;
    if (fstat(file, &status) != 0) return 0;
    if (S_ISREG(status.st_mode)) return static_cast<uint64_t>(status.st_size);
    return ioctl(file, BLKGETSIZE64, &bytes) == 0 ? bytes : 0;
}

void run_job(const Job& job, const Parameters& parameters) {
    const int file = open(parameters.device.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    if (file < 0) {
        say("FAIL %s %s: %s", job.name.c_str(), parameters.device.c_str(), std::strerror(errno));
        return;
    }
    const uint64_t blocks = size_of(file) / job.size;
    if (blocks == 0) {
        say("FAIL %s %s is too small", job.name.c_str(), parameters.device.c_str());
    } else {
        const uint64_t before = interrupts(parameters.interrupts);
        Load load(job, file, blocks);
        if (load.run(parameters.milliseconds)) {
            const uint64_t count = interrupts(parameters.interrupts) - before;
            say("ROW %s %.3f ns", job.name.c_str(),
                static_cast<double>(load.nanoseconds()) / static_cast<double>(load.requests()));
            say("IO %s requests=%zu p50=%.0f p99=%.0f max=%.0f interrupts=%llu", job.name.c_str(),
                load.requests(), load.percentile(50), load.percentile(99), load.percentile(100),
                static_cast<unsigned long long>(count));
        }
    }
    close(file);
}

/// @return whether all parameters make sense
bool run_jobs(const Parameters& parameters) {
    std::vector<Job> jobs;
    for (const std::string& name : parameters.jobs) {
        Job job;
        if (!parse_job(name, job)) {
            say("FAIL - %s is no job", name.c_str());
            return false;
        }
        jobs.push_back(job);
    }
    if (jobs.empty() || parameters.device.empty() || parameters.milliseconds == 0) {
        say("FAIL - io.device, io.milliseconds and io.jobs are needed");
        return false;
    }
    say("READY");
    for (const Job& job : jobs) {
        say("BEGIN %s %llu", job.name.c_str(), static_cast<unsigned long long>(now()));
        run_job(job, parameters);
        say("END %s %llu", job.name.c_str(), static_cast<unsigned long long>(now()));
    }
    say("DONE");
    return true;
}

std::vector<std::string> kernel_command_line() {
    std::string text;
    const int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    char buffer[4096];
    for (ssize_t got = 0; file >= 0 && (got = read(file, buffer, sizeof buffer)) > 0;)
        text.append(buffer, static_cast<std::size_t>(got));
    if (file >= 0) close(file);
    return split(text, " \n");
}

void mount_on(const char* type, const char* directory) {
    mkdir(directory, 0755);
    if (mount(type, directory, type, 0, nullptr) != 0)
        say("FAIL - mounting %s: %s", directory, std::strerror(errno));
}

void load_modules(const std::string& folder) {
    std::vector<std::string> names;
    DIR* const entries = opendir(folder.c_str());
    if (entries == nullptr) return;
    while (const dirent* entry = readdir(entries))
        if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    closedir(entries);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
        const int file = open((folder + "/" + name).c_str(), O_RDONLY | O_CLOEXEC);
        if (file < 0 || syscall(SYS_finit_module, file, "", 0) != 0)
            say("FAIL - module %s: %s", name.c_str(), std::strerror(errno));
        if (file >= 0) close(file);
    }
}

/// The life of a guest's first process; the kernel has opened its console.
[[noreturn]] void be_init() {
    mount_on("proc", "/proc");
    mount_on("sysfs", "/sys");
    mount_on("devtmpfs", "/dev");
    load_modules("/modules");
    const Parameters parameters = parse(kernel_command_line());
    // Disks are found some time after their driver is loaded.
    for (int i = 0; i < 1000 && access(parameters.device.c_str(), R_OK) != 0; ++i)
        usleep(10'000);
    run_jobs(parameters);
    reboot(RB_POWER_OFF);
    _exit(1);
}

} // namespace
} // namespace bench

int main(int count, char** arguments) {
    if (getpid() == 1 && count >= 1 && std::strcmp(arguments[0], "/init") == 0) bench::be_init();
    return bench::run_jobs(bench::parse({arguments + 1, arguments + count})) ? 0 : 2;
}
