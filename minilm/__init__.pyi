# The public names for editors and type checkers, which `__getattr__` in __init__.py tells nothing.

from . import util as util
from .backends import available_backends as available_backends, get_backend as get_backend
from .config import BertConfig as BertConfig
from .indexing.index import Index as Index
from .inspection.sts import evaluate_sts as evaluate_sts
from .inspection.trace import trace as trace
from .integrations.standin import as_sentence_transformers as as_sentence_transformers
from .models import (
    AlbertForMaskedLM as AlbertForMaskedLM,
    AlbertForSequenceClassification as AlbertForSequenceClassification,
    AlbertForTokenClassification as AlbertForTokenClassification,
    AlbertModel as AlbertModel,
    AutoConfig as AutoConfig,
    AutoModel as AutoModel,
    AutoModelForMaskedLM as AutoModelForMaskedLM,
    AutoModelForNextSentencePrediction as AutoModelForNextSentencePrediction,
    AutoModelForSequenceClassification as AutoModelForSequenceClassification,
    AutoModelForTokenClassification as AutoModelForTokenClassification,
    BertForMaskedLM as BertForMaskedLM,
    BertForNextSentencePrediction as BertForNextSentencePrediction,
    BertForSequenceClassification as BertForSequenceClassification,
    BertForTokenClassification as BertForTokenClassification,
    BertModel as BertModel,
    CamembertForMaskedLM as CamembertForMaskedLM,
    CamembertForSequenceClassification as CamembertForSequenceClassification,
    CamembertForTokenClassification as CamembertForTokenClassification,
    CamembertModel as CamembertModel,
    DistilBertForMaskedLM as DistilBertForMaskedLM,
    DistilBertForSequenceClassification as DistilBertForSequenceClassification,
    DistilBertForTokenClassification as DistilBertForTokenClassification,
    DistilBertModel as DistilBertModel,
    ElectraForMaskedLM as ElectraForMaskedLM,
    ElectraForSequenceClassification as ElectraForSequenceClassification,
    ElectraForTokenClassification as ElectraForTokenClassification,
    ElectraModel as ElectraModel,
    MPNetForMaskedLM as MPNetForMaskedLM,
    MPNetForSequenceClassification as MPNetForSequenceClassification,
    MPNetForTokenClassification as MPNetForTokenClassification,
    MPNetModel as MPNetModel,
    RobertaForMaskedLM as RobertaForMaskedLM,
    RobertaForSequenceClassification as RobertaForSequenceClassification,
    RobertaForTokenClassification as RobertaForTokenClassification,
    RobertaModel as RobertaModel,
    XLMRobertaForMaskedLM as XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification as XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification as XLMRobertaForTokenClassification,
    XLMRobertaModel as XLMRobertaModel,
    mean_pooling as mean_pooling,
    normalize as normalize,
)
from .pipelines import pipeline as pipeline
from .sentences.cross_encoder import CrossEncoder as CrossEncoder
from .sentences.sentence_transformer import SentenceTransformer as SentenceTransformer
from .sentences.text_classifier import TextClassifier as TextClassifier
from .tokenizing.auto import (
    AutoTokenizer as AutoTokenizer,
    BertTokenizer as BertTokenizer,
    BertTokenizerFast as BertTokenizerFast,
)
from .training.fitting import fit as fit
from .vectors.quantization import quantize_embeddings as quantize_embeddings
from .vectors.search import (
    community_detection as community_detection,
    paraphrase_mining as paraphrase_mining,
    semantic_search as semantic_search,
)
from .vectors.similarity import cos_sim as cos_sim

__version__: str
