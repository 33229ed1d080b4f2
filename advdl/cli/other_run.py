"""Another run that an experiment builds on."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypedDict

from flax.traverse_util import flatten_dict, unflatten_dict

from advdl import train
from advdl.cli.config import parse_checkpoint
from advdl.cli.progress import log
from advdl.errors import UserError, as_user_error
from advdl.reading import convert


class OtherRun(NamedTuple):
    """A run of another experiment, or another run of the same, that settings name.

    flag: the setting that has its folder, such as "--gan"; FLAG-checkpoint has its checkpoint.
    """

    flag: str
    folder: str
    checkpoint: str
    experiment: str

    def settings(self, kind: Any = dict[str, Any]) -> Any:
        """The configuration of that run, of a kind that `reading.convert` knows. Raises UserError
        where there is none, and for another kind."""
        with as_user_error(f"restore config.json of {self.folder}"):
            return convert(kind, train.stored_config(self.folder, self.experiment), "config")

    def frozen(self, owner: str, name: str, player: str = "model") -> Mapping[str, train.WarmStart]:
        """A warm start of the player `owner`: its `variables["frozen"][name]` becomes what `player`
        of that run is evaluated with. Nothing where no run is named.

        Raises UserError for what is no checkpoint. The warm start raises it where there is no such
        run or checkpoint, and where that is of another network.
        """
        which = self._which()

        def warm_start(shapes):
            _, _, found, step = train.load_player(self.folder, self.experiment, player, which)
            wanted = shapes["frozen"][name]
            train.same_layout(train.layout(found), train.layout(wanted), self.folder)
            log(f"{self.folder}: {name} is that of step {step}")
            return lambda own: {**own, "frozen": {**own["frozen"], name: found}}

        return {owner: warm_start} if self.folder else {}

    def begun(
        self, owner: str, player: str = "model", same: Mapping[str, Any] = MappingProxyType({})
    ) -> Mapping[str, train.WarmStart]:
        """A warm start of the player `owner`: it begins as what `player` of that run is evaluated
        with, and layers that only the new network has stay as they were drawn. Nothing where no run
        is named.

        same: settings in which that run must agree with these, by name. Raises UserError as
        `frozen` does; of another network is a run that has a layer which is missing here, or has
        another shape.
        """
        which = self._which()

        def warm_start(shapes):
            config, _, found, step = train.load_player(self.folder, self.experiment, player, which)
            for name, value in same.items():
                if config.get(name) != value:
                    raise UserError(
                        f"{self.folder} was trained with --{name} {config.get(name)!r}, not"
                        f" {value!r}; give the same"
                    )
            stored, wanted = train.layout(found), train.layout(shapes)
            common = {path: wanted[path] for path in stored if path in wanted}
            train.same_layout(stored, common, self.folder)
            log(f"{self.folder}: {len(stored)} of {len(wanted)} arrays are those of step {step}")
            return lambda own: unflatten_dict({**flatten_dict(own), **flatten_dict(found)})

        return {owner: warm_start} if self.folder else {}

    def _which(self) -> train.Which:
        which = parse_checkpoint(self.checkpoint, f"{self.flag}-checkpoint")
        if not self.folder and which != "latest":
            raise UserError(
                f"{self.flag}-checkpoint {which} is of another run; give that run as {self.flag}"
            )
        return which


class GeneratorRun(TypedDict):
    """What a run of `gan` says of its generator and of the data that it was trained on."""

    data: str
    data_dir: str | None
    image_size: int
    validation: float
    conditional: bool
    network: Literal["dcgan", "resnet", "mlp"]
    normalization: bool
    width: int
    z: int
    noise: str
