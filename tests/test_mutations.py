"""The damage that fuzz tests do is repeatable, and half of it is to the structure."""

from mutations import elements, mutate, seeds


def test_the_walk_finds_the_elements_of_a_whole_file():
    found = {elements(content)[0].tag for content in seeds()}
    assert found == {132}
    assert sum(len(elements(content)) > 20 for content in seeds()) > 100


def test_damage_is_repeatable_and_always_done():
    whole = seeds()
    damaged = [mutate(whole[number % len(whole)], number, seed=1) for number in range(200)]
    assert damaged == [mutate(whole[number % len(whole)], number, seed=1) for number in range(200)]
    assert sum(new == whole[number % len(whole)] for number, new in enumerate(damaged)) < 12
    assert len(set(damaged)) > 190


def test_odd_numbers_keep_the_preamble():
    whole = seeds()
    assert all(mutate(whole[number], number, seed=2)[128:132] == b"DICM" for number in range(1, len(whole), 2))
