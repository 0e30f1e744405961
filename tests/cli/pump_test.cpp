// SPDX-License-Identifier: Apache-2.0
#include "support/child_process.h"

#include "cli/endpoints.h"
#include "cli/input_pump.h"
#include "cli/output_pump.h"

#include <array>
#include <atomic>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <thread>
#include <unistd.h>

namespace gnomon::cli {
namespace {

using test::eventually;

struct Pipe {
    FileDescriptor read_end, write_end;
    Pipe() {
        std::array<int, 2> ends{-1, -1};
        EXPECT_EQ(::pipe(ends.data()), 0);
        read_end = FileDescriptor(ends[0]);
        write_end = FileDescriptor(ends[1]);
    }
    void write(std::string_view text) const {
        EXPECT_EQ(::write(write_end.get(), text.data(), text.size()),
                  static_cast<ssize_t>(text.size()));
    }
};

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

bool readable(int fd) {
    pollfd wanted{fd, POLLIN, 0};
    return ::poll(&wanted, 1, 0) == 1;
}

std::string take(InputPump& pump, std::size_t size) {
    std::string text(size, '\0');
    text.resize(pump.take(std::as_writable_bytes(std::span(text))));
    return text;
}

TEST(OutputPump, WritesEverythingInOrder) {
    const Pipe pipe;
    std::string sent;
    std::string got;
    std::thread reader([&] {
        std::array<char, 1000> block{};
        for (ssize_t size = 1; size > 0 && got.size() < 300000;) {
            size = ::read(pipe.read_end.get(), block.data(), block.size());
            if (size > 0) got.append(block.data(), static_cast<std::size_t>(size));
        }
    });
    OutputPump pump(pipe.write_end.get(), [](int) { ADD_FAILURE() << "not closed"; });
    while (sent.size() < 300000) {
        const std::string piece = fmt::format("{:06} ", sent.size());
        for (std::string_view rest = piece; !rest.empty();)
            rest.remove_prefix(pump.push(bytes(rest)));
        sent += piece;
    }
    pump.finish([] { return false; });
    reader.join();
    EXPECT_EQ(got.substr(0, 300000), sent.substr(0, 300000));
}

TEST(OutputPump, NeverBlocksAndTakesNoMoreThanItHolds) {
    const Pipe pipe; // nobody reads
    OutputPump pump(pipe.write_end.get(), [](int) { ADD_FAILURE() << "not closed"; });
    const std::string block(10000, 'x');
    // Until nothing has been taken for a while: then the pump and the pipe are full.
    std::size_t taken = 0;
    for (int refused = 0; refused < 50;) {
        const std::size_t more = pump.push(bytes(block));
        taken += more;
        refused = more == 0 ? refused + 1 : 0;
        if (more == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    const auto pipe_size = static_cast<std::size_t>(::fcntl(pipe.write_end.get(), F_GETPIPE_SZ));
    EXPECT_GE(taken, OutputPump::capacity);
    EXPECT_LE(taken, 2 * OutputPump::capacity + pipe_size);
    int asked = 0;
    pump.finish([&] { return ++asked == 2; }); // returns although nobody reads
    EXPECT_EQ(asked, 2);
}

TEST(OutputPump, TellsOnceWhenNobodyReadsAnyMore) {
    ::signal(SIGPIPE, SIG_IGN);
    Pipe pipe;
    pipe.read_end.reset();
    std::atomic<int> closed = 0;
    OutputPump pump(pipe.write_end.get(), [&](int error) {
        EXPECT_EQ(error, EPIPE);
        closed++;
    });
    pump.push(bytes("lost"));
    EXPECT_TRUE(eventually([&] { return closed == 1; }));
    EXPECT_EQ(pump.push(bytes("lost too")), 8U); // discarded, so that the guest does not wait
    pump.finish([] { return false; });
    EXPECT_EQ(closed, 1);
}

TEST(InputPump, GivesTheInputAndThenItsEnd) {
    Pipe pipe;
    InputPump pump(pipe.read_end.get(), {});
    EXPECT_FALSE(readable(pump.poll_descriptor()));
    pipe.write("hel\001lo");
    EXPECT_TRUE(eventually([&] { return readable(pump.poll_descriptor()); }));
    EXPECT_EQ(take(pump, 4), "hel\001");
    EXPECT_TRUE(readable(pump.poll_descriptor()));
    EXPECT_EQ(take(pump, 100), "lo");
    EXPECT_FALSE(readable(pump.poll_descriptor()));
    EXPECT_FALSE(pump.ended());
    pipe.write_end.reset();
    EXPECT_TRUE(eventually([&] { return readable(pump.poll_descriptor()); }));
    EXPECT_TRUE(pump.ended());
    EXPECT_EQ(take(pump, 100), "");
    // Seen; a machine that sleeps on the descriptor is not woken again and again.
    EXPECT_FALSE(readable(pump.poll_descriptor()));
    EXPECT_EQ(pump.taken(), 6U);
}

TEST(InputPump, TheEndAwaitsWhatCameBefore) {
    Pipe pipe;
    InputPump pump(pipe.read_end.get(), {});
    pipe.write("abc");
    pipe.write_end.reset();
    EXPECT_TRUE(eventually([&] { return readable(pump.poll_descriptor()); }));
    EXPECT_EQ(take(pump, 2), "ab");
    EXPECT_FALSE(pump.ended());
    EXPECT_EQ(take(pump, 2), "c");
    EXPECT_TRUE(eventually([&] { return pump.ended() && readable(pump.poll_descriptor()); }));
}

TEST(InputPump, HoldsBackBeyondTheLimit) {
    const Pipe pipe;
    InputPump pump(pipe.read_end.get(), {});
    pump.set_limit(0);
    pipe.write("abcdef");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(readable(pump.poll_descriptor()));
    EXPECT_EQ(take(pump, 10), "");
    pump.set_limit(4);
    EXPECT_TRUE(eventually([&] { return readable(pump.poll_descriptor()); }));
    EXPECT_EQ(take(pump, 10), "abcd");
    EXPECT_FALSE(readable(pump.poll_descriptor()));
    pump.set_limit(2); // below what is gone already
    EXPECT_EQ(take(pump, 10), "");
    pump.set_limit(~u64{0});
    EXPECT_EQ(take(pump, 10), "ef");
}

TEST(InputPump, CarriesMoreThanItHolds) {
    Pipe pipe;
    std::string sent(5 * InputPump::capacity + 17, '\0');
    for (std::size_t i = 0; i < sent.size(); i++)
        sent[i] = static_cast<char>(i * 7 % 251);
    std::thread writer([&] {
        pipe.write(sent);
        pipe.write_end.reset();
    });
    InputPump pump(pipe.read_end.get(), {});
    std::string got;
    EXPECT_TRUE(eventually([&] {
        for (std::string piece; !(piece = take(pump, 4000)).empty();)
            got += piece;
        return pump.ended();
    }));
    writer.join();
    EXPECT_TRUE(got == sent);
}

TEST(InputPump, EndsWhileItWaits) {
    const Pipe idle;
    { const InputPump pump(idle.read_end.get(), {}); }
    const Pipe full;
    {
        InputPump pump(full.read_end.get(), {});
        pump.set_limit(0);
        const std::string much(50000, 'x');
        full.write(much);
        full.write(much); // more than the pump holds: it waits for room
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

TEST(InputPump, CommandsComeEvenIfTheGuestTakesNothing) {
    const Pipe pipe;
    std::atomic<int> quits = 0;
    std::atomic<int> helps = 0;
    InputPump pump(pipe.read_end.get(), [&](EscapeFilter::Command command) {
        (command == EscapeFilter::Command::quit ? quits : helps)++;
    });
    pump.set_limit(0);
    pipe.write("abc\001h\001x");
    EXPECT_TRUE(eventually([&] { return quits == 1 && helps == 1; }));
    pump.set_limit(100);
    EXPECT_TRUE(eventually([&] { return readable(pump.poll_descriptor()); }));
    EXPECT_EQ(take(pump, 100), "abc");
}

TEST(ConsoleLog, KeepsTheLastLinesHarmless) {
    ConsoleLog log(nullptr);
    for (int i = 0; i < 5000; i++) {
        const std::string line = fmt::format("line {}\r\n\r\n", i);
        EXPECT_EQ(log.transmitted(bytes(line)), line.size());
    }
    log.transmitted(bytes("\033]0;evil\007 end"));
    EXPECT_EQ(log.last_lines(3), "  line 4998\n  line 4999\n  ?]0;evil? end\n");
    EXPECT_EQ(ConsoleLog(nullptr).last_lines(3), "");
}

std::string sent_to_guest(ControlEndpoint& port) {
    std::string all;
    for (std::string piece(7, '\0');;) { // in pieces, as a FIFO takes it
        const std::size_t size = port.receive(std::as_writable_bytes(std::span(piece)));
        if (size == 0) return all;
        all.append(piece, 0, size);
    }
}

TEST(ControlEndpoint, TheLastWordCounts) {
    const Pipe pipe;
    InputPump input(pipe.read_end.get(), {});
    ControlEndpoint port(input, nullptr);
    EXPECT_FALSE(port.ready());
    EXPECT_EQ(port.status(), std::nullopt);
    port.transmitted(bytes("rea"));
    port.transmitted(bytes("dy\nstarted 5\nexit 0\nexit 300\nnonsense\nexit 7\n"));
    EXPECT_TRUE(port.ready());
    EXPECT_EQ(port.status(), 7);
    port.transmitted(bytes("signal 9\n"));
    EXPECT_EQ(port.status(), 137);
    port.transmitted(bytes("error cannot\033 do\n"));
    EXPECT_FALSE(port.failure().empty());
    EXPECT_EQ(port.failure().find('\033'), std::string::npos);
}

TEST(ControlEndpoint, TheEndOfInputIsAnnouncedOnceAndNotTooEarly) {
    Pipe pipe;
    InputPump input(pipe.read_end.get(), {});
    OutputPump output(STDOUT_FILENO, [](int) {});
    ControlEndpoint control(input, nullptr);
    CommandStreamEndpoint stream(input, output, control);
    pipe.write("abc");
    pipe.write_end.reset();
    std::array<std::byte, 2> block{};
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(stream.receive(block), 0U); // before "ready" nothing flows
    control.transmitted(bytes("ready\n"));
    EXPECT_TRUE(eventually([&] { return readable(stream.poll_descriptor()); }));
    EXPECT_EQ(stream.receive(block), 2U);
    EXPECT_EQ(sent_to_guest(control), "");
    EXPECT_EQ(stream.receive(block), 1U);
    EXPECT_TRUE(eventually([&] { return stream.receive(block) == 0 && input.ended(); }));
    EXPECT_EQ(stream.receive(block), 0U);
    EXPECT_TRUE(readable(control.poll_descriptor()));
    EXPECT_EQ(sent_to_guest(control), "eof 3\n");
    EXPECT_FALSE(readable(control.poll_descriptor()));
    EXPECT_FALSE(readable(stream.poll_descriptor()));
}

TEST(ControlEndpoint, AnEndBeforeReadyWaitsQuietly) {
    Pipe pipe;
    pipe.write_end.reset();
    InputPump input(pipe.read_end.get(), {});
    OutputPump output(STDOUT_FILENO, [](int) {});
    ControlEndpoint control(input, nullptr);
    CommandStreamEndpoint stream(input, output, control);
    std::array<std::byte, 2> block{};
    EXPECT_TRUE(eventually([&] { return stream.receive(block) == 0 && input.ended(); }));
    EXPECT_EQ(stream.receive(block), 0U);
    EXPECT_FALSE(readable(control.poll_descriptor()));
    EXPECT_EQ(sent_to_guest(control), "");
    control.transmitted(bytes("ready\n"));
    EXPECT_TRUE(readable(control.poll_descriptor()));
    EXPECT_EQ(sent_to_guest(control), "eof 0\n");
}

} // namespace
} // namespace gnomon::cli
