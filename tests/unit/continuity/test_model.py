"""The same model, its histories chosen and shrunk by hypothesis."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from .model import PATHS, SKEWS, WAITS, History

clients = st.integers(0, 1)
counts = st.sampled_from([1, 1, 3, 20])
skews = st.sampled_from(SKEWS)
backs = st.integers(0, 30)


class Continuity(RuleBasedStateMachine):
    """Each rule is an operation of `History`."""

    history: History | None = None

    @initialize(seed=st.integers(0, 3), talk=st.booleans())
    def begin(self, seed: int, talk: bool) -> None:
        self.history = History(seed)
        if talk:
            for who in range(2):
                self.do("speak", who, 1)
            self.do("wait", 0.1)

    def do(self, operation: str, *arguments: object) -> None:
        getattr(self.history, operation)(*arguments)

    @rule(operation=st.sampled_from(["speak", "answer"]), who=clients, count=counts)
    def talk(self, operation: str, who: int, count: int) -> None:
        self.do(operation, who, count)

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: float) -> None:
        self.do("wait", seconds)

    @rule(path=st.sampled_from(PATHS))
    def weather(self, path: object) -> None:
        self.do("weather", path)

    @rule(steps=st.integers(0, 120))
    def doom(self, steps: int) -> None:
        self.do("doom", steps)

    @rule(same_keeper=st.booleans(), up_first=st.booleans(), skew=skews)
    def start(self, same_keeper: bool, up_first: bool, skew: float) -> None:
        self.do("start", same_keeper, up_first, skew)

    @rule(operation=st.sampled_from(["repeat", "replay_from_elsewhere"]), back=backs)
    def replay(self, operation: str, back: int) -> None:
        self.do(operation, back)

    @rule(back=backs, bit=st.integers(0, 1199))
    def alter(self, back: int, bit: int) -> None:
        self.do("alter", back, bit)

    @rule(
        operation=st.sampled_from(
            ["kill", "end_process", "hang", "kill_former", "drain", "thaw", "commit", "bounce", "greet"]
        )
    )
    def happen(self, operation: str) -> None:
        self.do(operation)

    @rule(operation=st.sampled_from(["reboot", "change_clock"]), skew=skews)
    def clock(self, operation: str, skew: float) -> None:
        self.do(operation, skew)

    @rule(operation=st.sampled_from(["spoof", "hoard", "wake", "locate", "remove", "add"]), who=clients)
    def happen_to(self, operation: str, who: int) -> None:
        self.do(operation, who)

    @rule(who=clients, host=st.integers(1, 3))
    def roam(self, who: int, host: int) -> None:
        self.do("roam", who, host)

    @rule(who=clients, psk=st.integers(0, 2))
    def change_psk(self, who: int, psk: int) -> None:
        self.do("change_psk", who, psk)

    @rule(number=st.integers(0, 2))
    def change_key(self, number: int) -> None:
        self.do("change_key", number)

    @invariant()
    def nothing_went_wrong(self) -> None:
        if self.history is not None:
            self.history.check()

    def teardown(self) -> None:
        if self.history is not None:
            try:
                self.history.end()
            finally:
                self.history.close()


Continuity.TestCase.settings = settings(
    max_examples=max(120, settings().max_examples),
    stateful_step_count=30,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
)
TestContinuity = Continuity.TestCase
