# SPDX-License-Identifier: Apache-2.0
"""The work of the row "python": bodies that attract each other, words that are counted, numbers that are sorted."""


class Body:
    def __init__(self, x, y, speed_x, speed_y, mass):
        self.x, self.y = x, y
        self.speed_x, self.speed_y = speed_x, speed_y
        self.mass = mass


def energy(bodies):
    total = 0.0
    for i, a in enumerate(bodies):
        total += 0.5 * a.mass * (a.speed_x**2 + a.speed_y**2)
        for b in bodies[i + 1 :]:
            total -= a.mass * b.mass / ((a.x - b.x) ** 2 + (a.y - b.y) ** 2) ** 0.5
    return total


def move(bodies, steps, step):
    for _ in range(steps):
        for i, a in enumerate(bodies):
            for b in bodies[i + 1 :]:
                x, y = a.x - b.x, a.y - b.y
                pull = step / (x * x + y * y) ** 1.5
                a.speed_x -= x * b.mass * pull
                a.speed_y -= y * b.mass * pull
                b.speed_x += x * a.mass * pull
                b.speed_y += y * a.mass * pull
        for body in bodies:
            body.x += step * body.speed_x
            body.y += step * body.speed_y


def count_words(count):
    words = {}
    state = 1
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2147483648
        word = "w%d" % (state >> 21)
        words[word] = words.get(word, 0) + 1
    text = " ".join(sorted(words, key=lambda word: (-words[word], word)))
    return len(text.upper().replace("W1", "-").split("-")), sum(words.values())


def main():
    bodies = [Body(0, 0, 0, 0, 40.0), Body(5, 0, 0, 2.8, 0.01), Body(0, 9, -2.1, 0, 0.02), Body(-14, 1, 0, -1.7, 0.01)]
    before = energy(bodies)
    move(bodies, 4000, 0.001)
    assert abs(energy(bodies) - before) < 1e-3, "the energy is not kept"
    pieces, words = count_words(40000)
    assert words == 40000 and pieces > 100, "the words are miscounted"
    numbers = [(i * 7919) % 10007 for i in range(10007)]
    assert sorted(numbers) == list(range(10007)), "the numbers are not in order"


main()
