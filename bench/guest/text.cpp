// SPDX-License-Identifier: Apache-2.0
// text KIBIBYTES: prints that much text, always the same: lines of made-up words, frequent ones
// more often than rare ones, so that it compresses about as well as prose.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

/// Marsaglia's xorshift with 64 bits of state.
class Random {
public:
    std::uint64_t next() {
        m_state ^= m_state << 13;
        m_state ^= m_state >> 7;
        m_state ^= m_state << 17;
        return m_state;
    }
    /// From 0 to limit - 1.
    std::uint64_t below(std::uint64_t limit) { return next() % limit; }

private:
    std::uint64_t m_state = 88172645463325252;
};

std::vector<std::string> make_words(Random& random) {
    std::vector<std::string> words(4096);
    for (std::string& word : words) {
        for (std::uint64_t syllables = 1 + random.below(4); syllables != 0; syllables--) {
            word += "bdfghklmnprstvwz"[random.below(16)];
            word += "aeiouaeioea"[random.below(11)];
            if (random.below(3) == 0) word += "nrslt"[random.below(5)];
        }
    }
    return words;
}

} // namespace

int main(int count, char** arguments) {
    char* end = nullptr;
    const unsigned long kibibytes = count == 2 ? std::strtoul(arguments[1], &end, 10) : 0;
    if (count != 2 || *end != '\0' || kibibytes < 1 || kibibytes > 65536) {
        std::fprintf(stderr, "usage: text KIBIBYTES (1 to 65536)\n");
        return 2;
    }
    Random random;
    const std::vector<std::string> words = make_words(random);
    const std::size_t size = kibibytes << 10;
    std::string text;
    text.reserve(size + 64);
    std::size_t line = 0;
    while (text.size() < size) {
        // The product of two uniform numbers favours the small: the first words of the list are the
        // frequent ones.
        const std::uint64_t rank = random.below(64) * random.below(64);
        text += words[rank];
        if (text.size() - line > 70 || random.below(64) == 0) {
            text += ".\n";
            line = text.size();
        } else {
            text += ' ';
        }
    }
    return std::fwrite(text.data(), 1, size, stdout) == size && std::fflush(stdout) == 0 ? 0 : 1;
}
