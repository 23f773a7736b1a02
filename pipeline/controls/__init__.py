"""What an operator can do: `Controls`, and the actions that they are made of."""

from clesr.pipeline.controls.action import NAMED_KEYS as NAMED_KEYS
from clesr.pipeline.controls.action import REQUIRED as REQUIRED
from clesr.pipeline.controls.action import Action as Action
from clesr.pipeline.controls.action import Argument as Argument
from clesr.pipeline.controls.action import assign_keys as assign_keys
from clesr.pipeline.controls.controls import Controlled as Controlled
from clesr.pipeline.controls.controls import Controls as Controls
