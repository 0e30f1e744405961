// SPDX-License-Identifier: Apache-2.0
// A token that goes from process to process through pipes.
#include "rows.h"

#include <cerrno>
#include <csignal>
#include <memory>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace bench {

namespace {

class Pipe {
public:
    Pipe() {
        int ends[2];
        if (pipe(ends) != 0) give_up("pipe");
        m_read = ends[0];
        m_write = ends[1];
    }
    Pipe(Pipe&& other) noexcept
        : m_read(std::exchange(other.m_read, -1)), m_write(std::exchange(other.m_write, -1)) {}
    Pipe& operator=(Pipe&&) = delete;
    ~Pipe() {
        close_writer();
        if (m_read >= 0) close(m_read);
    }
    void close_writer() {
        if (m_write >= 0) close(std::exchange(m_write, -1));
    }
    void put() const {
        const char token = 't';
        if (write(m_write, &token, 1) != 1) give_up("write to a pipe");
    }
    /// False at the end of the pipe.
    [[nodiscard]] bool get() const {
        char token;
        const ssize_t got = read(m_read, &token, 1);
        if (got < 0) give_up("read from a pipe");
        return got == 1;
    }

private:
    int m_read = -1, m_write = -1;
};

/// Memory that a process goes through each time it has the token.
class WorkingSet {
public:
    explicit WorkingSet(std::size_t bytes) : m_words(bytes / sizeof(std::uint64_t), 1) {}
    void use() {
        std::uint64_t sum = 0;
        for (const std::uint64_t word : m_words)
            sum += word;
        keep(sum);
    }

private:
    std::vector<std::uint64_t> m_words;
};

/// This process and `others` more in a ring; each passes the token on after going through its
/// working set.
class Ring {
public:
    Ring(unsigned others, std::size_t bytes) : m_own(bytes) {
        m_pipes.reserve(others + 1);
        for (unsigned i = 0; i < others + 1; i++)
            m_pipes.emplace_back();
        for (unsigned i = 0; i < others; i++) {
            const pid_t child = fork();
            if (child < 0) give_up("fork");
            if (child == 0) member(i, bytes);
            m_children.push_back(child);
        }
        // Only the members write to these; so a member that ends brings the ring to its end.
        for (unsigned i = 1; i < others + 1; i++)
            m_pipes[i].close_writer();
    }
    ~Ring() {
        m_pipes.front().close_writer();
        for (const pid_t child : m_children)
            waitpid(child, nullptr, 0);
    }
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    void round() {
        m_pipes.front().put();
        if (!m_pipes.back().get()) {
            errno = ECHILD;
            give_up("the ring of processes");
        }
        m_own.use();
    }

private:
    /// Reads from pipe `index`, writes to the next one, until the first one's end.
    [[noreturn]] void member(unsigned index, std::size_t bytes) {
        for (unsigned i = 0; i < m_pipes.size(); i++)
            if (i != index + 1) m_pipes[i].close_writer();
        WorkingSet set(bytes);
        while (m_pipes[index].get()) {
            set.use();
            m_pipes[index + 1].put();
        }
        _exit(0);
    }

    std::vector<Pipe> m_pipes;
    std::vector<pid_t> m_children;
    WorkingSet m_own;
};

/// The time of one hop of the token, less what the pipe and the working set cost in a single
/// process.
Outcome switch_time(Budget budget, unsigned processes, std::size_t bytes) {
    const Budget half{budget.nanoseconds / 2};
    double alone = 0;
    {
        const Pipe pipe;
        WorkingSet set(bytes);
        alone = least_of_batches(half, [&](std::uint64_t count) {
                    for (; count != 0; count--) {
                        pipe.put();
                        if (!pipe.get()) give_up("read from a pipe");
                        set.use();
                    }
                }).nanoseconds;
    }
    Ring ring(processes - 1, bytes);
    const double round = least_of_batches(half, [&](std::uint64_t count) {
                             for (; count != 0; count--)
                                 ring.round();
                         }).nanoseconds;
    return {round / processes - alone};
}

} // namespace

Outcome pipe_round_trip(Budget budget) {
    Ring ring(1, 0);
    return least_of_batches(budget, [&](std::uint64_t count) {
        for (; count != 0; count--)
            ring.round();
    });
}

Outcome switch_two_processes(Budget budget) { return switch_time(budget, 2, 0); }

Outcome switch_eight_processes(Budget budget) { return switch_time(budget, 8, 16 << 10); }

} // namespace bench
