from django.urls import path

from . import views

urlpatterns = [
    path("", views.notes),
    path("version", views.version),
    path("notes/<int:number>/attachment", views.attachment),
]
