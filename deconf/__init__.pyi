from deconf import encoders as encoders
from deconf import methods as methods
from deconf import worlds as worlds
from deconf.causal.graph import CausalGraph as CausalGraph
from deconf.causal.invariance import Invariance as Invariance
from deconf.causal.plan import Plan as Plan
from deconf.cohort.cohort import Cohort as Cohort
from deconf.encoders.base import load_encoder as load_encoder
from deconf.encoders.deconfounded import DeconfoundedEncoder as DeconfoundedEncoder
from deconf.encoders.saved import load as load
from deconf.errors import CohortError as CohortError
from deconf.errors import DeconfError as DeconfError
from deconf.errors import GraphError as GraphError
from deconf.errors import LeakageError as LeakageError
from deconf.errors import NotIdentified as NotIdentified
from deconf.errors import OverlapWarning as OverlapWarning
from deconf.errors import ReadError as ReadError
from deconf.errors import SettingsError as SettingsError
from deconf.evidence.compare import compare as compare
from deconf.evidence.leakage import Audit as Audit
from deconf.evidence.leakage import audit as audit
from deconf.evidence.report import Report as Report
from deconf.evidence.verdict import Verdict as Verdict
from deconf.front import Deconfounder as Deconfounder
from deconf.front import deconfound as deconfound

__version__: str
